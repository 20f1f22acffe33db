//! `render` and `init`, and what they make of charts and kustomizations: black box, with the real programs.

use std::ffi::OsString;
use std::fs;

use assert_cmd::cargo::cargo_bin_cmd;
use insta::assert_snapshot;
use tempfile::TempDir;

use crate::support::parts::part;

/// A repository, and somebody who runs greenroom in it.
struct Repository {
    folder: TempDir,
    path: OsString,
}

impl Repository {
    fn new(files: &[(&str, &str)]) -> Self {
        let repository = Self { folder: tempfile::tempdir().unwrap(), path: OsString::new() };
        for (name, text) in files {
            let path = repository.path(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        repository
    }

    /// Together with this program, which has to be there where the parts of the control plane are.
    fn with(program: &str, files: &[(&str, &str)]) -> Option<Self> {
        let path = part("GREENROOM_TEST_CONTROL_PLANE", "charts and kustomizations, by the real programs")?;
        assert!(greenroom::process::find(program, &path).is_some(), "{program} is not in {}", path.display());
        Some(Self { path, ..Self::new(files) })
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.folder.path().join(name)
    }

    /// Exit code, stdout and stderr.
    fn runs(&self, arguments: &[&str]) -> (i32, String, String) {
        let mut greenroom = cargo_bin_cmd!("greenroom");
        greenroom
            .env_clear()
            .env("PATH", &self.path)
            .env("SECRET", "of the server")
            .current_dir(&self.folder);
        let output = greenroom.args(arguments).output().unwrap();
        let text = |bytes| String::from_utf8(bytes).unwrap();
        (output.status.code().unwrap(), text(output.stdout), text(output.stderr))
    }

    fn renders(&self) -> String {
        let (code, objects, told) = self.runs(&["render"]);
        assert_eq!(code, 0, "{told}");
        objects
    }

    /// What is told when it is refused.
    fn is_refused(&self) -> String {
        let (code, objects, told) = self.runs(&["render"]);
        assert_eq!((code, objects.as_str()), (2, ""), "{told}");
        told
    }
}

const HELM: &str =
    "version: 1\nengine: kubernetes\nkubernetes: {helm: {chart: chart, values: [review.yaml]}}\n";
const CHART: &str = "apiVersion: v2\nname: web\nversion: 1.0.0\n";
const TEMPLATE: &str = "apiVersion: v1
kind: ConfigMap
metadata:
  name: {{ .Release.Name }}-config
  namespace: {{ .Release.Namespace }}
data:
  title: {{ .Values.title | quote }}
  tag: {{ .Values.tag | quote }}
  secret: {{ env \"SECRET\" | default \"none\" | quote }}
";

/// The chart above; `env` is nothing that Helm knows.
fn chart() -> Vec<(&'static str, &'static str)> {
    vec![
        (".greenroom.yml", HELM),
        ("chart/Chart.yaml", CHART),
        ("chart/values.yaml", "title: none\ntag: latest\n"),
        (
            "chart/templates/config.yaml",
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: '{{ .Release.Name }}-config', namespace: '{{ .Release.Namespace }}'}\ndata:\n  title: {{ .Values.title | quote }}\n  tag: {{ .Values.tag | quote }}\n",
        ),
        ("review.yaml", "title: {{ title }}\ntag: \"{{ short_sha }}\"\n"),
    ]
}

#[test]
fn a_chart_is_rendered_with_values_that_are_templates() {
    let Some(repository) = Repository::with("helm", &chart()) else { return };
    assert_snapshot!(repository.renders());
    // Branches have long names, and releases short ones.
    let long = "somebodys-shop-feature-a-search-that-finds-5005-b-3k9d2m1q";
    let (code, objects, told) = repository.runs(&["render", "--name", long]);
    assert_eq!(code, 0, "{told}");
    assert!(
        objects.contains("name: somebodys-shop-feature-a-search-that-finds-5005-b-3k9-config\n"),
        "{objects}"
    );
    let (_, objects, _) = repository.runs(&["render", "--title", "x\"\nkind: Secret\n---\n{{ .Values }}"]);
    let read: serde_json::Value = serde_saphyr::from_str(&objects).unwrap();
    assert_eq!(read["data"]["title"], "x\"\nkind: Secret\n---\n{{ .Values }}");
}

#[test]
fn a_chart_sees_nothing_of_the_server_and_asks_nobody() {
    for (name, text) in [
        ("chart/templates/config.yaml", TEMPLATE),
        ("chart/templates/x.yaml", "a: b\nc: {{ (lookup \"v1\" \"Secret\" \"\" \"\") }}\n"),
        (
            "chart/Chart.yaml",
            "apiVersion: v2\nname: web\nversion: 1.0.0\ndependencies:\n- name: redis\n  version: 1.0.0\n  repository: https://charts.example\n",
        ),
        ("review.yaml", "title: {{ titel }}\n"),
        ("chart/templates/config.yaml", "kind: {{ required \"a title is needed\" .Values.none }}\n"),
        ("chart/templates/config.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: a}\n"),
    ] {
        let mut files = chart();
        files.retain(|(known, _)| *known != name);
        files.push((name, text));
        let Some(repository) = Repository::with("helm", &files) else { return };
        assert_snapshot!(format!("{name}: {text}\n  => {}", repository.is_refused()));
    }
}

#[test]
fn hooks_for_other_times_are_left_out_and_what_is_refused_is_named_as_in_the_chart() {
    let hook = |name: &str, hook: &str| {
        format!(
            "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}, annotations: {{helm.sh/hook: \"{hook}\"}}}}\n"
        )
    };
    let hooks = [
        hook("migrate", "pre-install, pre-upgrade"),
        hook("drop-the-database", "post-delete"),
        hook("undo", "pre-rollback,post-rollback"),
        hook("try", "test"),
    ];
    let hooks = hooks.concat();
    let mut files = chart();
    files.push(("chart/templates/hooks.yaml", hooks.as_str()));
    let Some(repository) = Repository::with("helm", &files) else { return };
    let objects = repository.renders();
    let heads: Vec<&str> =
        objects.lines().filter(|line| line.starts_with("# ") || line.starts_with("  name: ")).collect();
    assert_snapshot!(heads.join("\n"), @r"
    # chart/templates/config.yaml
      name: app-1-mr-1-config
    # chart/templates/hooks.yaml
      name: migrate
    ");
    let hidden = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: fine}\n---\napiVersion: v1\nkind: Namespace\nmetadata: {name: b}\n";
    fs::create_dir_all(repository.path("chart/charts/part/templates")).unwrap();
    fs::write(repository.path("chart/charts/part/Chart.yaml"), CHART.replace("web", "part")).unwrap();
    fs::write(repository.path("chart/charts/part/templates/two.yaml"), hidden).unwrap();
    assert_snapshot!(repository.is_refused(), @"`chart/charts/part/templates/two.yaml`: `Namespace b: kind: is not of a namespace, or gives rights; previews may have neither`");
}

const KUSTOMIZE: &str = "version: 1\nengine: kubernetes\nkubernetes: {kustomize: k8s/overlays/review}\n";

fn kustomization() -> Vec<(&'static str, &'static str)> {
    vec![
        (".greenroom.yml", KUSTOMIZE),
        ("k8s/base/kustomization.yaml", "resources: [pod.yaml]\n"),
        (
            "k8s/base/pod.yaml",
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\nspec: {containers: [{name: a, image: app}]}\n",
        ),
        (
            "k8s/overlays/review/kustomization.yaml",
            "resources: [../../base]\nimages:\n- {name: app, newName: \"{{ registry_image }}\", newTag: \"{{ sha }}\"}\nconfigMapGenerator:\n- name: b\n  files: [notes.txt]\n  literals: [\"title={{ title }}\"]\n",
        ),
        ("k8s/overlays/review/notes.txt", "{{ not a template }}\n"),
    ]
}

#[test]
fn a_kustomization_is_built_with_files_that_are_templates() {
    let Some(repository) = Repository::with("kustomize", &kustomization()) else { return };
    assert_snapshot!(repository.renders());
}

#[test]
fn a_file_that_is_no_template_reaches_its_config_map_as_it_is() {
    let config = "# for the program\nserver:\n  port: 8080 # here\n  umask: 0027\n";
    let mut files = kustomization();
    files.retain(|(name, _)| !name.ends_with("review/kustomization.yaml"));
    files.push((
        "k8s/overlays/review/kustomization.yaml",
        "resources: [../../base]\nconfigMapGenerator: [{name: b, files: [config.yaml]}]\n",
    ));
    files.push(("k8s/overlays/review/config.yaml", config));
    let Some(repository) = Repository::with("kustomize", &files) else { return };
    let objects: Vec<serde_json::Value> = serde_saphyr::from_multiple(&repository.renders()).unwrap();
    assert_eq!(objects[0]["data"]["config.yaml"], config);
}

/// Nothing in such a repository is called `/something`, and what is for others stays theirs.
#[test]
fn what_lies_at_the_top_of_a_repository_is_rendered_too() {
    let object = "apiVersion: v1\nkind: Namespace\nmetadata: {name: {{ name }}}\n";
    let ci = (".gitlab-ci.yml", "build: {script: [docker inspect --format '{{ .Id }}' web]}\n");
    let mut told = Vec::new();
    let kustomization = [
        (".greenroom.yml", "version: 1\nengine: kubernetes\nkubernetes: {kustomize: .}\n"),
        ci,
        ("kustomization.yaml", "resources: [a.yaml]\n"),
        ("a.yaml", object),
    ];
    let Some(repository) = Repository::with("kustomize", &kustomization) else { return };
    told.push(repository.is_refused());
    let manifests = [
        (".greenroom.yml", "version: 1\nengine: kubernetes\nkubernetes: {manifests: .}\n"),
        ci,
        ("a.yaml", object),
    ];
    told.push(Repository::new(&manifests).is_refused());
    let chart = [
        (".greenroom.yml", "version: 1\nengine: kubernetes\nkubernetes: {helm: {chart: .}}\n"),
        ci,
        ("Chart.yaml", CHART),
        ("templates/a.yaml", "apiVersion: v1\nkind: Namespace\nmetadata: {name: {{ .Release.Name }}}\n"),
        ("docs/lookup.txt", "{{ lookup }}\n"),
    ];
    let Some(repository) = Repository::with("helm", &chart) else { return };
    told.push(repository.is_refused());
    assert_snapshot!(told.join(""), @r"
    `a.yaml`: `Namespace app-1-mr-1: kind: is not of a namespace, or gives rights; previews may have neither`
    `a.yaml:1`: `Namespace app-1-mr-1: kind: is not of a namespace, or gives rights; previews may have neither`
    `templates/a.yaml`: `Namespace app-1-mr-1: kind: is not of a namespace, or gives rights; previews may have neither`
    ");
}

#[test]
fn a_kustomization_fetches_nothing_and_starts_nothing() {
    let overlay = "k8s/overlays/review/kustomization.yaml";
    for (name, text) in [
        (overlay, "namePrefix: a-\nresources:\n- ../../base\n- https://example.com/base.yaml\n"),
        (overlay, "resources:\n- github.com/acme/web//k8s?ref=main\n"),
        ("k8s/base/kustomization.yaml", "resources:\n- pod.yaml\n- git@example.com:acme/web.git\n"),
        (overlay, "resources: [../../base]\npatches:\n- path: https://example.com/patch.yaml\n"),
        (
            overlay,
            "resources: [../../base]\nconfigMapGenerator:\n- name: a\n  files: [a=https://example.com/a]\n",
        ),
        (overlay, "resources: [../../../../../etc]\n"),
        (overlay, "resources: [../../base]\nhelmCharts:\n- {name: a, repo: https://charts.example}\n"),
        (overlay, "resources: [../../base]\ngenerators: [generator.yaml]\n"),
        (overlay, "resources: [../../base]\ntransformers: [transformer.yaml]\n"),
        (overlay, "namePrefix: {{ prefix }}\n"),
        (overlay, "resources: [../../base]\nnonsense: true\n"),
    ] {
        let mut files = kustomization();
        files.retain(|(known, _)| *known != name);
        files.push((name, text));
        let Some(repository) = Repository::with("kustomize", &files) else { return };
        assert_snapshot!(format!("{name}: {text}\n  => {}", repository.is_refused()));
    }
}

#[test]
fn a_preset_is_printed_and_what_is_wrong_is_told() {
    let empty = Repository::new(&[]);
    let (code, objects, _) = empty.runs(&["render", "--preset", "worker", "--image", "app:1"]);
    assert_eq!(code, 0);
    assert!(objects.starts_with("# preset worker/deployment.yaml:1\napiVersion: apps/v1\n"), "{objects}");
    let mut told = Vec::new();
    for arguments in [
        &["render"][..],
        &["render", "--preset", "worker"],
        &["render", "--preset", "wbe", "--image", "a"],
        &["render", "--preset", "web", "--image", "a", "--sha", "HEAD"],
    ] {
        let (code, _, prose) = empty.runs(arguments);
        told.push(format!("{arguments:?}: {code}\n{prose}"));
    }
    let site = Repository::new(&[(".greenroom.yml", "version: 1\nengine: static\nstatic: {job: build}\n")]);
    told.push(site.runs(&["render"]).2);
    let chart = Repository::new(&chart());
    told.push(chart.runs(&["render"]).2);
    assert_snapshot!(told.join("\n"));
}

#[test]
fn init_writes_a_first_file_for_what_is_there_and_says_why() {
    let repositories: [&[(&str, &str)]; 12] = [
        &[("Dockerfile", "FROM node\nEXPOSE 3000/tcp\nCMD npm start\n")],
        &[("Containerfile", "FROM scratch\nEXPOSE $PORT\n")],
        &[("Dockerfile", ""), ("chart/Chart.yaml", CHART)],
        &[("charts/web/Chart.yaml", CHART)],
        &[
            ("Dockerfile", ""),
            ("k8s/base/kustomization.yaml", ""),
            ("k8s/overlays/review/kustomization.yaml", ""),
        ],
        &[("kustomization.yaml", "")],
        &[
            ("package.json", "{}"),
            (".gitlab-ci.yml", "build site:\n  script: [npm run build]\n  artifacts: {paths: [dist/]}\n"),
        ],
        &[("package.json", "{}")],
        &[(".gitlab-ci.yml", "pages:\n  script: [hugo]\n  artifacts: {paths: [public]}\n")],
        &[("README.md", "")],
        &[(
            ".gitlab-ci.yml",
            "spec: {inputs: {x: {default: y}}}\n---\ndefault:\n  artifacts: {paths: [build]}\nsite:\n  script: [a]\n  script: \
             [!reference [.b, script]]\n  artifacts: {paths: [coverage, ./dist]}\n",
        )],
        &[(".gitlab-ci.yml", "docs:\n  script: [mkdocs]\n  artifacts: {paths: [$CI_PROJECT_DIR/site/**]}\n")],
    ];
    let mut told = Vec::new();
    for files in repositories {
        let repository = Repository::new(files);
        let (code, data, prose) = repository.runs(&["init"]);
        let names: Vec<_> = files.iter().map(|(name, _)| *name).collect();
        told.push(format!("{names:?}: {code}\n{prose}{data}"));
        if code == 0 {
            let written = fs::read_to_string(repository.path(".greenroom.yml")).unwrap();
            assert_eq!(written, data);
            assert_eq!(repository.runs(&["check"]).0, 0);
            let (again, _, refusal) = repository.runs(&["init"]);
            assert_eq!(again, 2, "{refusal}");
            assert!(refusal.contains("stays as it is"), "{refusal}");
            assert_eq!(fs::read_to_string(repository.path(".greenroom.yml")).unwrap(), written);
        }
    }
    assert_snapshot!(told.join("\n"));
}

const MANIFESTS: &str = "version: 1\nengine: kubernetes\nkubernetes: {manifests: k8s}\n";

fn config_map(data: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: texts}}\ndata:\n{data}\n")
}

/// What takes few steps and all the memory, time or stack there is.
#[cfg(target_os = "linux")]
#[test]
fn a_template_that_wants_everything_gets_its_line_named() {
    let lines = |first: &str, line: &str, times: usize, last: &str| {
        format!("{{% set x = {first} %}}\n{}  a: {last}", format!("{line}\n").repeat(times))
    };
    for (template, problem) in [
        (
            lines("title", "{% set x = x ~ x %}", 40, "b"),
            "it takes more than 128 MiB of memory, which is the limit",
        ),
        (
            lines("[title, title]", "{% set x = [x, x] %}", 40, "{{ x }}"),
            "it takes more than 128 MiB of memory, which is the limit",
        ),
        (lines("[]", "{% set x = [x] %}", 50_000, "b"), "its values lie too deep in each other"),
        (
            lines("title", "", 40, "{{ title * 100000000000 }}"),
            "invalid operation: repeated string is too large",
        ),
    ] {
        let harmless = config_map("  a: {{ title }}").replace("texts", "harmless");
        let harmful = config_map(&template);
        let files = [
            (".greenroom.yml", MANIFESTS),
            ("k8s/app.yaml", harmless.as_str()),
            ("k8s/bomb.yaml", harmful.as_str()),
        ];
        let told = Repository::new(&files).is_refused();
        let (place, why) = told.trim().split_once(": ").unwrap();
        let line = place.trim_matches('`').strip_prefix("k8s/bomb.yaml:").expect(place);
        // How close to it depends on how fast this machine is.
        assert!((1..=50_006).contains(&line.parse::<u32>().unwrap()), "{told}");
        assert_eq!(why, format!("`{problem}`"));
    }
    // A text of the project file is a template, too.
    let file =
        "version: 1\nengine: kubernetes\nkubernetes: {preset: web, image: '{{ title * 100000000000 }}'}\n";
    assert_snapshot!(Repository::new(&[(".greenroom.yml", file)]).is_refused(), @"`.greenroom.yml kubernetes.image`: `invalid operation: repeated string is too large`");
}

/// What is rendered apart becomes what it becomes here.
#[test]
fn a_template_that_computes_is_rendered_as_any_other() {
    let template = "{% set x %}{% for i in range(3) %}{{ title ~ i }}: {% endfor %}{% endset %}  a: {{ x }}\n  b: {{ [iid, title] | tojson }}";
    let repository =
        Repository::new(&[(".greenroom.yml", MANIFESTS), ("k8s/app.yaml", &config_map(template))]);
    assert_snapshot!(repository.renders(), @r#"
    # k8s/app.yaml:1
    apiVersion: v1
    data:
      a: "A merge request0: A merge request1: A merge request2: "
      b: "[1,\"A merge request\"]"
    kind: ConfigMap
    metadata:
      name: texts
    "#);
    let wrong = config_map("  a: {{ title ~ tilte }}");
    fs::write(repository.path("k8s/app.yaml"), wrong).unwrap();
    assert_snapshot!(repository.is_refused(), @"`k8s/app.yaml:5`: `'tilte' is undefined`");
}
