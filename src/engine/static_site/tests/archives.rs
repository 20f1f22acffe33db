//! Which archives are refused, and in which words.

use std::os::unix::fs::PermissionsExt;

use insta::assert_snapshot;

use super::*;

const INDEX: (&str, &str) = ("index.html", "<h1>Hi</h1>");

/// Changes a field of the last entry in an archive's list of contents.
fn patched(mut archive: Vec<u8>, offset: usize, bytes: &[u8]) -> Vec<u8> {
    let header = archive.windows(4).rposition(|window| window == b"PK\x01\x02").unwrap();
    archive[header + offset..][..bytes.len()].copy_from_slice(bytes);
    archive
}

/// The last entry as something of another Unix type.
fn typed(mode: u32) -> Vec<u8> {
    patched(zip(&[INDEX, ("odd", "/etc/passwd")]), 38, &(mode << 16).to_le_bytes())
}

#[tokio::test]
async fn a_path_that_leads_elsewhere_is_refused() {
    let mut bench = Bench::new();
    for path in ["/etc/cron.d/x", "../x", "a/../../x", "a\\b", "C:/x", "a\0b", "dist/../../x"] {
        let why = bench.refused(&zip(&[INDEX, (path, "x")])).await;
        assert!(why.contains("use plain relative paths"), "{path:?}: {why}");
    }
    assert_snapshot!(bench.refused(&zip(&[INDEX, ("../up.html", "x")])).await, @"the path `../up.html` in the archive has a `..`; use plain relative paths with `/`");
    let latin1 = patched(zip(&[INDEX, ("cafe.html", "x")]), 46, b"caf\xe9.html");
    assert_snapshot!(bench.refused(&latin1).await, @"the path `caf�.html` in the archive is not UTF-8; use plain relative paths with `/`");
    let deep = format!("{}x", "d/".repeat(32));
    assert_snapshot!(bench.refused(&zip(&[INDEX, (&deep, "x")])).await, @"`d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/d/x` in the archive lies deeper than 32 folders; use fewer");
    let long = "n".repeat(256);
    assert!(bench.refused(&zip(&[INDEX, (&long, "x")])).await.contains("a part of it than 255"));
    assert!(!bench.folder.path().join("up.html").exists());
}

#[tokio::test]
async fn only_plain_files_and_folders_are_taken() {
    let mut bench = Bench::new();
    for (mode, what) in [
        (0o120_777, "a symbolic link"),
        (0o010_644, "a pipe"),
        (0o020_644, "a device"),
        (0o060_644, "a device"),
        (0o140_644, "a socket"),
        (0o150_644, "neither a file nor a folder"),
    ] {
        assert!(bench.refused(&typed(mode)).await.contains(what), "{mode:o}");
    }
    assert_snapshot!(bench.refused(&typed(0o120_777)).await, @"`odd` in the archive is a symbolic link; pack plain files and folders only");
    let encrypted = patched(zip(&[INDEX, ("odd", "x")]), 8, &[1, 0]);
    assert_snapshot!(bench.refused(&encrypted).await, @"`odd` in the archive is encrypted; pack it without a password");
    let lzma = patched(zip(&[INDEX, ("odd", "x")]), 10, &[14, 0]);
    assert_snapshot!(bench.refused(&lzma).await, @"`odd` in the archive is compressed in a way that is not supported; pack it with deflate or store");
}

#[tokio::test]
async fn a_link_outside_the_folder_that_is_served_harms_nobody() {
    let mut bench = Bench::new();
    let archive = zip(&[("dist/index.html", "x"), ("node_modules/.bin/vite", "../vite/bin.js")]);
    let mut order = bench.order(&web(), 'a', &patched(archive, 38, &(0o120_777_u32 << 16).to_le_bytes()));
    let Input::Artifact { root, .. } = &mut order.input else { unreachable!() };
    *root = "dist/".into();
    assert_eq!(bench.run(order).await.pending, None);
    assert_eq!(bench.engine.site(&web()).unwrap().release.files.keys().collect::<Vec<_>>(), ["index.html"]);
}

#[tokio::test]
async fn two_entries_never_share_a_path() {
    let mut bench = Bench::new();
    assert_snapshot!(bench.refused(&zip(&[INDEX, ("a//b", "1"), ("a/b", "2")])).await, @"`a/b` in the archive is there twice; pack it once");
    assert_snapshot!(bench.refused(&zip(&[INDEX, ("a", "1"), ("a/b", "2")])).await, @"`a` in the archive is both a file and a folder; rename one of them");
    assert_snapshot!(bench.refused(&zip(&[INDEX, ("a/b", "1"), ("a", "2")])).await, @"`a` in the archive is both a file and a folder; rename one of them");
    let same = zip(&[INDEX, ("one.txt", "1"), ("two.txt", "2")]);
    assert_snapshot!(bench.refused(&patched(same, 46, b"one.txt")).await, @"two entries of the archive have the same name; pack each file once");
    let status = {
        let order = bench.order(
            &web(),
            'a',
            &zip(&[INDEX, ("Readme", "1"), ("README", "2"), ("a/", ""), ("a/b", "")]),
        );
        bench.run(order).await
    };
    assert_eq!(status.pending, None);
}

#[tokio::test]
async fn what_comes_out_is_counted_whatever_the_headers_say() {
    let mut bench = Bench::new();
    let zeros = "0".repeat(4 << 20);
    let bomb = zip(&[INDEX, ("bomb", &zeros)]);
    assert!(bomb.len() * 200 < zeros.len(), "{} is no bomb", bomb.len());
    assert_snapshot!(bench.refused(&bomb).await, @"the archive unpacks to more than 200 times its own size; leave out files that are mostly padding");
    // Sizes in the list of contents that belittle it change nothing.
    let liar = patched(bomb.clone(), 24, &[1, 0, 0, 0]);
    bench.refused(&liar).await;

    let small = Limits { unpacked_bytes: 2 << 20, ratio: u64::MAX, ..Limits::default() };
    assert_snapshot!(Bench::with(small).refused(&bomb).await, @"the archive unpacks to more than 2 MiB; keep only what is served in the artifact");
    let small = Limits { file_bytes: 3 << 10, ..Limits::default() };
    assert_snapshot!(Bench::with(small).refused(&bomb).await, @"`bomb` in the archive is larger than 3 KiB; leave it out or make it smaller");
    let small = Limits { archive_bytes: 100, ..Limits::default() };
    assert_snapshot!(Bench::with(small).refused(&bomb).await, @"the archive is larger than 100 bytes; keep only what is served in the artifact");
}

#[tokio::test]
async fn an_archive_of_too_many_files_is_refused() {
    let mut bench = Bench::new();
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for index in 0..100_000 {
        zip.start_file(index.to_string(), SimpleFileOptions::default()).unwrap();
    }
    let archive = zip.finish().unwrap().into_inner();
    assert_snapshot!(bench.refused(&archive).await, @"the archive has 100000 entries and 50000 are allowed; keep only what is served in the artifact");

    let few = Limits { entries: 3, ..Limits::default() };
    let implied = super::zip(&[INDEX, ("a/b/c", "x")]);
    assert_snapshot!(Bench::with(few).refused(&implied).await, @"the archive has 4 entries and 3 are allowed; keep only what is served in the artifact");
}

#[tokio::test]
async fn a_list_of_contents_that_is_too_long_is_not_read_to_its_end() {
    let limits = Limits { entries: 10, ..Limits::default() };
    let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
    for index in 0..30_000 {
        zip.start_file(format!("{index:>064}"), SimpleFileOptions::default()).unwrap();
    }
    let archive = zip.finish().unwrap().into_inner();
    assert_snapshot!(Bench::with(limits).refused(&archive).await, @"the archive's list of contents is larger than 1051136 bytes; use fewer files or shorter names");
}

#[tokio::test]
async fn a_damaged_archive_is_refused() {
    let mut bench = Bench::new();
    assert_snapshot!(bench.refused(b"<html>502 Bad Gateway</html>").await, @"the archive is damaged or no zip file; run the job again to make a new artifact");
    assert_eq!(bench.refused(b"").await, bench.refused(b"PK\x05\x06").await);
    let whole = zip(&[INDEX]);
    bench.refused(&whole[..whole.len() - 30]).await;
    let wrong_sum = patched(whole, 16, &[1, 2, 3, 4]);
    assert_snapshot!(bench.refused(&wrong_sum).await, @"`index.html` in the archive is damaged; run the job again to make a new artifact");
}

#[tokio::test]
async fn the_folder_to_serve_must_be_there_and_have_an_index() {
    let mut bench = Bench::new();
    let archive = zip(&[("a/", ""), ("b/index.html", ""), ("c", ""), ("d/x", ""), ("e", ""), ("f", "")]);
    assert_snapshot!(bench.refused_below("dist", &archive).await, @"the archive has no folder `dist`; at its top it has `a`, `b`, `c`, `d`, `e`; change `path` in `.greenroom.yml` or the job's artifact");
    assert_snapshot!(bench.refused_below("c", &archive).await, @"the folder to serve, `c`, is a file in the archive; set `path` in `.greenroom.yml` to a folder");
    assert_snapshot!(bench.refused_below("c/deeper", &archive).await, @"the folder to serve, `c`, is a file in the archive; set `path` in `.greenroom.yml` to a folder");
    assert_snapshot!(bench.refused_below("../b", &archive).await, @"the folder to serve, `../b`, is not a path within the archive; change `path` in `.greenroom.yml`");
    assert_snapshot!(bench.refused_below("d", &archive).await, @"the folder to serve, `d`, has no `index.html`; change `path` in `.greenroom.yml` or what the job puts there");
    assert_snapshot!(bench.refused_below(".", &archive).await, @"the archive has no `index.html` at its top; at its top it has `a`, `b`, `c`, `d`, `e`; set `path` in `.greenroom.yml` to the folder that has it");
    assert_snapshot!(bench.refused(&zip(&[])).await, @"the archive has no `index.html` at its top: it is empty; set `path` in `.greenroom.yml` to the folder that has it");
}

#[tokio::test]
async fn modes_are_made_plain() {
    let mut bench = Bench::new();
    let archive = patched(zip(&[INDEX, ("bin/run", "x")]), 38, &(0o106_777_u32 << 16).to_le_bytes());
    let order = bench.order(&web(), 'a', &archive);
    assert_eq!(bench.run(order).await.pending, None);
    let root = bench.engine.site(&web()).unwrap().root().to_owned();
    let mode = |path: &str| std::fs::metadata(root.join(path)).unwrap().permissions().mode() & 0o7777;
    // Less the umask of whoever runs the tests, which takes away from others only.
    assert_eq!(mode("bin/run") & 0o7700, 0o600);
    assert_eq!(mode("bin") & 0o7700, 0o700);
}

#[tokio::test]
async fn what_git_keeps_is_no_part_of_a_site() {
    let mut bench = Bench::new();
    let config = ".git/config";
    let files = [
        INDEX,
        (".gitignore", "x"),
        (config, "https://ci:hush@gitlab.example.com"),
        ("sub/.git", "x"),
        ("sub/a", "x"),
    ];
    let order = bench.order(&web(), 'a', &zip(&files));
    bench.run(order).await;
    let site = bench.engine.site(&web()).unwrap();
    let served = [INDEX.0, ".gitignore", "sub/a", config, "sub/.git"].map(|path| site.file(path).is_some());
    assert_eq!(served, [true, true, true, false, false]);
    assert!(!site.root().join(".git").exists());
    assert!(Bench::new().refused(&zip(&[(config, "x")])).await.contains("index.html"));
}
