//! What holds for all verbs: help, manual pages, completions, and readers that go away.

use std::{fs, process::Stdio};

use insta::assert_snapshot;

use super::{Shell, child, shown};

const VERBS: [&str; 26] = [
    "serve",
    "demo",
    "sandbox",
    "check",
    "init",
    "install",
    "render",
    "deploy",
    "connect",
    "list",
    "why",
    "open",
    "logs",
    "plan",
    "stop",
    "refresh",
    "sleep",
    "wake",
    "doctor",
    "health",
    "brake",
    "adopt",
    "schema",
    "defaults",
    "completions",
    "man",
];

#[test]
fn help_is_there_for_every_verb() {
    let shell = Shell::new();
    assert_snapshot!("help", shell.reads(&["--help"]));
    for verb in VERBS {
        assert_snapshot!(format!("help_of_{verb}"), shell.reads(&[verb, "--help"]));
    }
}

#[test]
fn the_version_is_the_packages() {
    assert_eq!(Shell::new().reads(&["--version"]), format!("greenroom {}\n", env!("CARGO_PKG_VERSION")));
}

#[test]
fn what_is_no_verb_is_a_mistake_in_usage() {
    let shell = Shell::new();
    for args in [&[][..], &["preview"], &["serve", "--port", "80"], &["completions", "tcsh"], &["sandbox"]] {
        let (code, stdout, stderr) = shell.runs(args);
        assert_eq!((code, &*stdout), (2, ""), "{args:?}");
        assert!(stderr.contains("Usage:") || stderr.contains("For more information"), "{args:?}: {stderr}");
    }
}

#[test]
fn shells_complete_every_verb() {
    let shell = Shell::new();
    for kind in ["bash", "zsh", "fish"] {
        let script = shell.reads(&["completions", kind]);
        for verb in VERBS {
            assert!(script.contains(verb), "{kind} does not know {verb}");
        }
    }
}

#[test]
fn every_verb_has_a_manual_page() {
    let shell = Shell::new();
    let page = shell.reads(&["man"]);
    assert!(page.contains(".TH greenroom 1"), "{page}");
    assert_eq!(shell.reads(&["man", "--to", "new/pages"]), "");
    let read = |name: &str| fs::read_to_string(shell.0.path().join("new/pages").join(name)).unwrap();
    assert_eq!(read("greenroom.1"), page);
    for verb in VERBS {
        assert!(page.contains(&format!("greenroom\\-{verb}(1)")), "{verb}: {page}");
        let page = read(&format!("greenroom-{verb}.1"));
        assert!(page.contains(&format!("\\fBgreenroom {verb}\\fR")), "{page}");
    }
    shell.writes("file", "");
    assert_snapshot!(shown(shell.runs(&["man", "--to", "file"])));
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let shell = Shell::new();
    for args in [
        &["schema"][..],
        &["defaults"],
        &["completions", "bash"],
        &["man"],
        &["--help"],
        &["serve", "--help"],
    ] {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut child = child(&shell, args, writer, Stdio::piped());
        let mut said = String::new();
        std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut said).unwrap();
        assert_eq!((child.wait().unwrap().code(), &*said), (Some(0), ""), "{args:?}");
    }
}

#[test]
fn a_job_that_works_alone_has_no_server_to_ask() {
    let shell = Shell::new();
    for args in [&["list"][..], &["logs", "acme/web!7"], &["plan", "acme/web!7"], &["stop", "acme/web!7"]] {
        let output = shell.greenroom(args).env("GREENROOM_SERVER", "none").output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {told}");
        assert!(told.contains("`none` stands for no server: this job does the work itself"), "{told}");
    }
}

/// A log of a job is read by many, and a variable of several lines cannot be masked.
#[test]
fn a_secret_where_its_path_belongs_is_not_shown() {
    let shell = Shell::new();
    let kubeconfig = "apiVersion: v1\nkind: Config\nusers: [{name: a, user: {token: hush-hush}}]\n";
    let job = [("GREENROOM_INSTANCE", "acme"), ("GREENROOM_SERVER", "none"), ("GITLAB_CI", "true")];
    let serve = [("GREENROOM_WEBHOOK_SECRET_TOKEN", "s"), ("GREENROOM_GITLAB_URL", "http://127.0.0.1:9")];
    for (verb, others, name, value, told) in [
        ("deploy", &job[..], "KUBECONFIG", kubeconfig, "holds a kubeconfig, and not the path of one"),
        ("stop", &job, "GREENROOM_KUBECONFIG", "YXBpVmVyc2lvbjogdjEKa2hush-hush", "holds a kubeconfig"),
        ("stop", &job, "GREENROOM_CONFIG", "[[project]]\ngitlab_token = 'hush-hush'\n", "cannot be read"),
        ("serve", &serve, "GREENROOM_KUBECONFIG", kubeconfig, "holds a kubeconfig, and not the path of one"),
        ("serve", &serve, "GREENROOM_GITLAB_TOKEN_FILE", "glpat-hush-hush", "the value cannot be read"),
    ] {
        let mut greenroom = shell.greenroom(&[verb]);
        let output = greenroom.envs(others.iter().copied()).env(name, value).output().unwrap();
        let all = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert_eq!(output.status.code(), Some(2), "{verb}: {all}");
        assert!(all.contains(name) || all.contains("--config"), "{all}");
        assert!(all.contains(told) && !all.contains("hush-hush"), "{all}");
    }
}
