//! What is read of a project file, and what people are told of their mistakes.

use std::path::Path;

use insta::{assert_debug_snapshot, assert_snapshot};

use super::*;

#[test]
fn the_shortest_useful_file_is_read() {
    let file = ProjectFile::parse("version: 1\nengine: static\nstatic: {job: build}\n").unwrap();
    assert_eq!(
        file,
        ProjectFile {
            workload: Workload::Static(StaticSettings {
                job: "build".into(),
                path: RelativePath::default(),
                spa: false,
            }),
            wait_for: WaitFor::Job("build".into()),
            checks: Vec::new(),
            expires_after: None,
            when: When::default(),
        }
    );
}

#[test]
fn everything_that_can_be_said_of_a_cluster_is_read() {
    let file = ProjectFile::parse(
        "version: 1
engine: kubernetes
kubernetes:
  preset: web-postgres
  image: '{{ registry_image }}:{{ sha }}'
  port: 3000
  env: {LOG_LEVEL: debug, RETRIES: 3, RATIO: 1.50, VERBOSE: true, TITLE: '{{ title }}'}
  secrets: [API_KEY]
  replicas: 2
  resources: {requests: {cpu: 100m}, limits: {memory: 512Mi, ephemeral-storage: 1Gi}}
  probe: {http: /healthz?full=1, starts_within: 5m}
  command: [/bin/app]
  args: [--url, '{{ url }}']
  user: 1000
  writable_root: true
  volumes: [{name: data, path: /var/lib/app, size: 1Gi}, {name: cache, path: /cache}]
  metrics: {}
  autoscale: {max: 3}
  postgres: {database: shop, size: 2Gi}
  seed: {command: [/bin/seed, --fast]}
wait_for: {job: image}
checks:
  - {http: /healthz, status: 204, body: '^ok', timeout: 10s}
  - {job: [./smoke.sh], timeout: 5m}
",
    )
    .unwrap();
    assert_debug_snapshot!(file);
    let Workload::Kubernetes(settings) = &file.workload else { panic!("{file:?}") };
    insta::assert_json_snapshot!(settings);
}

#[test]
fn what_is_waited_for_has_a_default_for_each_engine() {
    let site = "version: 1\nengine: static\nstatic: {job: build}\n";
    let cluster = "version: 1\nengine: kubernetes\nkubernetes: {manifests: k8s}\n";
    let pictured = "version: 1\nengine: kubernetes\nkubernetes: {manifests: k8s, image: web}\n";
    let job = |name: &str| WaitFor::Job(name.to_owned());
    for (text, said, waits_for) in [
        (site, "", job("build")),
        (site, "wait_for: job\n", job("build")),
        (site, "wait_for: {job: all}\n", job("all")),
        (site, "wait_for: pipeline\n", WaitFor::Pipeline),
        (cluster, "", WaitFor::Pipeline),
        (cluster, "wait_for: pipeline\n", WaitFor::Pipeline),
        (pictured, "wait_for: image\n", WaitFor::Image),
        (cluster, "wait_for: {job: image}\n", job("image")),
    ] {
        assert_eq!(ProjectFile::parse(&format!("{text}{said}")).unwrap().wait_for, waits_for, "{text}{said}");
    }
}

#[test]
fn each_mistake_about_a_cluster_is_named_with_its_place_and_what_was_expected() {
    let many = format!("kubernetes: {{manifests: k8s}}\nchecks: [{}]", "{http: /}, ".repeat(21));
    let mistakes = [
        "kubernetes: {}",
        "kubernetes: {preset: web}",
        "kubernetes: {preset: ../web, image: a}",
        "kubernetes: {preset: web, manifests: k8s, image: a}",
        "kubernetes: {preset: web, image: a, port: 0}",
        "kubernetes: {preset: web, image: a, port: http}",
        "kubernetes: {preset: web, image: a, env: {A-B: x}}",
        "kubernetes: {preset: web, image: a, env: {A: null}}",
        "kubernetes: {preset: web, image: {{ registry_image }}}",
        "kubernetes: {manifests: k8s}\nwait_for: image",
        "kubernetes: {preset: web, image: a, env: [A=b]}",
        "kubernetes: {preset: web, image: a, replicas: 100}",
        "kubernetes: {preset: web, image: a, resources: {limits: {memory: lots}}}",
        "kubernetes: {preset: web, image: a, resources: {memory: 1Gi}}",
        "kubernetes: {preset: web, image: a, probe: {http: healthz}}",
        "kubernetes: {preset: web, image: a, probe: {http: /, tcp: 80}}",
        "kubernetes: {preset: web, image: a, probe: {command: []}}",
        "kubernetes: {preset: web, image: a, probe: {starts_within: 2d}}",
        "kubernetes: {preset: web, image: a, user: 0}",
        "kubernetes: {preset: web, image: a, volumes: [{name: Data, path: /data}]}",
        "kubernetes: {preset: web, image: a, volumes: [{name: data, path: ../data}]}",
        "kubernetes: {preset: web, image: a, volumes: [{name: data, path: /a/../b}]}",
        "kubernetes: {preset: web, image: a, colour: blue}",
        "kubernetes: {manifests: ../k8s}",
        "kubernetes: {helm: {values: [a.yaml]}}",
        "kubernetes: {helm: {chart: chart}, replicas: 2}",
        "static: {job: build}\nkubernetes: {manifests: k8s}",
        "static: {job: build}",
        "kubernetes: {manifests: k8s}\nwait_for: job",
        "kubernetes: {manifests: k8s}\nwait_for: luck",
        "kubernetes: {manifests: k8s}\nwait_for: {task: build}",
        "kubernetes: {manifests: k8s}\nwait_for: [image]",
        "kubernetes: {manifests: k8s}\nchecks: [{}]",
        "kubernetes: {manifests: k8s}\nchecks: [{http: /, job: [a]}]",
        "kubernetes: {manifests: k8s}\nchecks: [{http: /, status: 20}]",
        "kubernetes: {manifests: k8s}\nchecks: [{http: /, body: '('}]",
        "kubernetes: {manifests: k8s}\nchecks: [{job: []}]",
        "kubernetes: {manifests: k8s}\nchecks: [{job: [a], status: 200}]",
        "kubernetes: {manifests: k8s}\nchecks: [{http: /, body: '\\w{2000}{2000}'}]",
        &many,
    ];
    let told = mistakes.map(|text| {
        let file = format!("version: 1\nengine: kubernetes\n{text}\n");
        format!("{text}\n  {}", ProjectFile::parse(&file).unwrap_err())
    });
    assert_snapshot!(told.join("\n"));
}

#[test]
fn a_path_is_normalised() {
    for (text, path) in [("dist", "dist"), ("./dist/", "dist"), (".", ""), ("", ""), ("a//b", "a/b")] {
        assert_eq!(RelativePath::try_from(text.to_owned()).unwrap().as_path(), Path::new(path));
    }
    for text in ["..", "a/../..", "/etc", "a\\b", "a\0b"] {
        assert!(RelativePath::try_from(text.to_owned()).is_err(), "{text:?}");
    }
}

#[test]
fn each_mistake_is_named_with_its_place_and_what_was_expected() {
    let mistakes = [
        "",
        "version: 2\nengine: static\n",
        "version: 1\nengine: static\nstatic: {job: a}\nchecks: [{job: [./smoke.sh]}]\n",
        "version: 1\nengine: heroku\n",
        "version: 1\nengine: static\n",
        "version: 1\nengine: static\nstatic: {path: dist}\n",
        "version: 1\nengine: static\nstatic: {job: build}\nexpire_after: 7d\n",
        "version: 1\nengine: static\nstatic: {job: build}\nexpires_after: soon\n",
        "version: 1\nengine: static\nstatic: {job: build, path: ../..}\n",
        "version: 1\nengine: static\nstatic: {job: build, spa: perhaps}\n",
        "version: 1\nversion: 1\nengine: static\nstatic: {job: build}\n",
        "version: 1\nengine: [static\n",
        "a: &a [x]\nb: *c\n",
        "version: one\nengine: static\n",
        "static: build\n",
        "engine: static\nstatic: {job: build}\n",
        "version: 1\nengine: static\nstatic: {job: build}\n---\nversion: 1\n",
        "version: 1\nengine: static\nstatic: {job: build}\nwhen: {draft: false}\n",
        "version: 1\nengine: static\nstatic: {job: build}\nwhen: {drafts: never}\n",
        "version: 1\nengine: static\nstatic: {job: build}\nwhen:\n  labels: [preview]\n",
        "version: 1\nengine: static\nstatic: {job: build}\nwhen:\n  labels: {any: preview}\n",
        "version: 1\nengine: static\nstatic: {job: build}\nwhen:\n  labels: {none: ['a, b']}\n",
        "version: 1\nengine: static\nstatic: {job: build}\nwhen:\n  target_branches: main\n",
        "version: 1\nengine: static\nstatic: {job: build}\nwhen:\n  target_branches: ['release/[']\n",
        "version: 1\nengine: static\nstatic: {job: build}\nwhen:\n  paths:\n    - web/**\n    - '{api'\n",
        "version: 1\nengine: static\nstatic: {job: build}\nwhen:\n  paths: [web/]\n",
        "version: 1\nengine: static\nstatic: {job: build}\nwhen:\n  paths: [/web/**]\n",
    ];
    let told: Vec<String> = mistakes
        .iter()
        .map(|text| format!("{text:?}\n  {}", ProjectFile::parse(text).unwrap_err()))
        .collect();
    assert_snapshot!(told.join("\n"));
}
