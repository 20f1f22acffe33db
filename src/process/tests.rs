//! Children are held to their limits.

use super::*;

const LIMITS: Limits = Limits { time: Duration::from_mins(1), memory: 256 << 20, output: 1 << 10 };

async fn shell(script: &str, limits: Limits) -> Result<String, Error> {
    let arguments = ["-c".into(), script.into()];
    let call = Call {
        program: Path::new("/bin/sh"),
        arguments: &arguments,
        folder: Path::new("/"),
        input: &[],
        limits,
    };
    run(call).await.map(|output| String::from_utf8(output).unwrap())
}

#[tokio::test]
async fn a_child_sees_nothing_of_our_environment() {
    let printed = shell("/usr/bin/env; ls -A \"$HOME\"; pwd", LIMITS).await.unwrap();
    let names: Vec<_> = printed.lines().filter_map(|line| Some(line.split_once('=')?.0)).collect();
    for name in &names {
        // The shell's own.
        assert!(["HOME", "TMPDIR", "PWD", "OLDPWD", "SHLVL", "_"].contains(name), "{printed}");
    }
    assert!(printed.ends_with("\n/\n"), "{printed}");
}

#[tokio::test]
async fn a_child_that_fails_is_quoted() {
    let error = shell("echo fine; echo 'no such chart' >&2; exit 3", LIMITS).await.unwrap_err();
    assert_eq!(error.to_string(), "no such chart");
    let error = shell("exit 3", LIMITS).await.unwrap_err();
    assert_eq!(error.to_string(), "exit status: 3");
}

#[tokio::test]
async fn a_child_that_does_not_end_is_ended_with_all_that_it_started() {
    let folder = tempfile::tempdir().unwrap();
    let mark = folder.path().join("pid");
    let script = format!("sleep 1000 & echo $! > {}; wait", mark.display());
    let error = shell(&script, Limits { time: Duration::from_secs(1), ..LIMITS }).await.unwrap_err();
    assert!(matches!(error, Error::TooSlow(_)), "{error}");
    let Ok(pid) = std::fs::read_to_string(&mark) else { return };
    let stat = PathBuf::from(format!("/proc/{}/stat", pid.trim()));
    let deadline = std::time::Instant::now() + Duration::from_mins(1);
    while std::fs::read_to_string(&stat).is_ok_and(|stat| !stat.contains(") Z ")) {
        assert!(std::time::Instant::now() < deadline, "{} still runs", pid.trim());
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_child_that_prints_without_end_is_ended() {
    for script in ["yes", "yes >&2 & yes"] {
        let error = shell(script, LIMITS).await.unwrap_err();
        assert!(matches!(error, Error::TooMuch(1024)), "{error}");
    }
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn a_child_that_wants_all_the_memory_does_not_get_it() {
    let script = "x=0123456789abcdef; while :; do x=$x$x; done";
    let error = shell(script, Limits { memory: 32 << 20, ..LIMITS }).await.unwrap_err();
    assert!(matches!(error, Error::Failed(_)), "{error}");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let call = Call {
        program: Path::new("/nowhere/helm"),
        arguments: &[],
        folder: Path::new("/"),
        input: &[],
        limits: LIMITS,
    };
    let error = run(call).await.unwrap_err();
    assert!(error.to_string().starts_with("cannot start /nowhere/helm: "), "{error}");
}

#[test]
fn a_program_is_found_as_a_shell_does() {
    let path = OsStr::new("/nowhere:/bin:/usr/bin");
    assert!(find("sh", path).is_some());
    assert_eq!(find("no-such-program", path), None);
    assert_eq!(find("sh", OsStr::new("/nowhere")), None);
}
