//! What projects write becomes objects, and what they must not write is named.

use std::fs;

use insta::assert_snapshot;
use proptest::prelude::*;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::*;
use crate::preview::{PreviewName, Sha};
use crate::render::{ProjectFile, Workload};

mod policy;
mod presets;

fn settings(yaml: &str) -> KubernetesSettings {
    let file = ProjectFile::parse(&format!("version: 1\nengine: kubernetes\nkubernetes: {yaml}\n")).unwrap();
    let Workload::Kubernetes(settings) = file.workload else { panic!("{yaml}") };
    *settings
}

fn values() -> Values {
    Values {
        sha: Sha::parse("0123456789abcdef0123456789abcdef01234567").unwrap(),
        head_sha: Sha::parse("76543210fedcba9876543210fedcba9876543210").unwrap(),
        name: PreviewName::parse("web-42-mr-7").unwrap(),
        host: "web-42-mr-7.preview.example".into(),
        url: "https://web-42-mr-7.preview.example".into(),
        iid: Some(7),
        title: "Add \"search\": now".into(),
        branch: "feature/search".into(),
        author: "ada".into(),
        registry_image: Some("registry.example/acme/web".into()),
        image: None,
        configured: [("tier".to_owned(), json!("small"))].into(),
        password_key: Some(SecretString::from("a key of the server's own")),
    }
}

/// Renders one file of a project.
async fn rendered(template: &str) -> Result<Vec<Value>, RenderError> {
    with(template, &values()).await
}

async fn with(template: &str, values: &Values) -> Result<Vec<Value>, RenderError> {
    let tree = tempfile::tempdir().unwrap();
    fs::create_dir(tree.path().join("k8s")).unwrap();
    fs::write(tree.path().join("k8s/app.yaml"), template).unwrap();
    let settings = settings("{manifests: k8s, env: {A: b}}");
    let rules = ManifestRules::default();
    let manifests = render(&settings, tree.path(), values, &rules, &Tools::default()).await?;
    Ok(manifests.into_iter().map(|manifest| manifest.object).collect())
}

/// A ConfigMap with this as its `data`.
fn config(data: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata:\n{data}\n")
}

async fn data(template: &str) -> Value {
    rendered(&config(template)).await.unwrap()[0]["data"].clone()
}

#[tokio::test]
async fn what_is_written_is_data_of_its_own_kind() {
    let cases = [
        ("  a: {{ sha }}", json!("0123456789abcdef0123456789abcdef01234567")),
        // Seven digits are a number in YAML, but not here.
        ("  a: {{ short_sha[:7] }}", json!("0123456")),
        ("  a: {{ iid }}", json!(7)),
        ("  a: \"{{ iid }}\"", json!("7")),
        ("  a: {{ title }}", json!("Add \"search\": now")),
        ("  a: \"{{ title }}!\"", json!("Add \"search\": now!")),
        ("  a: 'x {{ title }} {{ iid }}'", json!("x Add \"search\": now 7")),
        ("  a: {{ title | upper }}", json!("ADD \"SEARCH\": NOW")),
        ("  a: {{ title[:5] }}", json!("Add \"")),
        ("  a: {{ title ~ iid }}", json!("Add \"search\": now7")),
        ("  a: {{ branch | slug }}", json!("feature-search")),
        ("  a: [{% for c in author %}{{ c }}, {% endfor %}]", json!(["a", "d", "a"])),
        ("  a: |\n    one {{ title }}\n    two", json!("one Add \"search\": now\ntwo\n")),
        ("  a: {{ app.env }}", json!({"A": "b"})),
        ("  a: \"{{ app.env | tojson }}\"", json!("{\"A\":\"b\"}")),
        ("  a: {{ not app.writable_root }}", json!(true)),
        ("  a: {{ none }}", json!(null)),
        ("  a: {{ tier }}", json!("small")),
        ("  {{ 'a' }}: {{ 'b' }}", json!("b")),
        ("{% macro m(x) %}<{{ x }}>{% endmacro %}  a: {{ m(title) }}", json!("<Add \"search\": now>")),
        ("{% set s %}{{ title }}{% endset %}  a: {{ s }}", json!("Add \"search\": now")),
        ("  a: b # {{ title }}", json!("b")),
    ];
    for (template, expected) in cases {
        assert_eq!(data(template).await["a"], expected, "{template}");
    }
}

/// Titles that would be more than a title, were they written as they are.
fn hostile() -> impl Strategy<Value = String> {
    let piece = prop_oneof![
        Just("\"".to_owned()),
        Just("'".to_owned()),
        Just("\n---\n".to_owned()),
        Just("\n  evil: true\n".to_owned()),
        Just("{{ sha }}".to_owned()),
        Just("{% raw %}".to_owned()),
        Just(" #".to_owned()),
        Just(": ".to_owned()),
        Just("&a *a !!binary".to_owned()),
        Just("\u{0}\u{85}\u{2028}\t\r".to_owned()),
        Just("]}".to_owned()),
        Just("|\n".to_owned()),
        "[ -~]{0,8}",
        any::<String>(),
    ];
    prop::collection::vec(piece, 0..8).prop_map(|pieces| pieces.concat())
}

proptest! {
    #[test]
    fn no_title_changes_what_a_document_is_made_of(title in hostile(), branch in hostile(), author in hostile()) {
        let template = config(
            "  plain: {{ title }}
  double: \"[{{ title }}]\"
  single: '{{ branch }}'
  upper: {{ title | upper }}
  joined: {{ title ~ branch }}
  list: [{{ title }}, {{ author }}]
  map: {key: {{ branch }}}
  block: |
    {{ title }}
    end
  folded: >-
    {{ author }}
  trimmed: {{ title | trim | replace('a', branch) }}
  json: {{ title | tojson }}
  '{{ author }}': key
  # {{ title }}
  last: true",
        );
        let values = Values { title: title.clone(), branch: branch.clone(), author: author.clone(), ..values() };
        let objects = tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(with(&template, &values));
        // The one thing that is refused: a key that is there already.
        let known = ["plain", "double", "single", "upper", "joined", "list", "map", "block", "folded", "trimmed", "json", "last"];
        if known.contains(&author.as_str()) {
            prop_assert!(objects.is_err());
            return Ok(());
        }
        let objects = objects.unwrap();
        prop_assert_eq!(objects.len(), 1);
        let expected = json!({
            "plain": title,
            "double": format!("[{title}]"),
            "single": branch,
            "upper": title.to_uppercase(),
            "joined": format!("{title}{branch}"),
            "list": [title, author],
            "map": {"key": branch},
            "block": format!("{title}\nend\n"),
            "folded": author,
            "trimmed": title.trim().replace('a', &branch),
            "json": serde_json::to_string(&title).unwrap(),
            author.clone(): "key",
            "last": true,
        });
        prop_assert_eq!(&objects[0]["data"], &expected);
    }
}

#[tokio::test]
async fn each_mistake_in_a_template_is_named_with_file_line_and_name() {
    let object = config("  a: b");
    let mistakes = [
        config("  a: {{ titel }}"),
        config("  a: {{ app.prot }}"),
        config("  a: {{ titel | upper }}"),
        config("  a: {{ titel.x }}"),
        config("  a: {{ title | shout }}"),
        config("  a: {{ title"),
        config("  a: {% if title %}x"),
        config("  a: {{ 1 / 0 }}"),
        config("  a: {% include '../secret.yaml' %}"),
        config("  a: {% include '/etc/passwd' %}"),
        config("  a: {% for a in range(90000) %}{% for b in range(90000) %}{% endfor %}{% endfor %}"),
        config("  a: '{% for a in range(60000) %}{{ 'x' * 90 }}{% endfor %}'"),
        config("  a: {% macro m() %}{{ m() }}{% endmacro %}{{ m() }}"),
        config("  a: {{ range }}"),
        config("  {{ 'a' }}: 1\n  a: 2"),
        config("{% macro m() %}{{ title }}{% endmacro %}  a: {{ m() | upper }}"),
        config("  a: [b"),
        format!("{object}---\n{object}"),
        format!("{{% for a in [1, 2, 3] %}}\n---\n{{% endfor %}}\n{object}---\na: {{{{ titel }}}}"),
        format!("{{% for a in [1, 2, 3] %}}\n---\n{{% endfor %}}\n{object}---\na: [b"),
        format!("{object}---\n- a\n"),
        format!("{object}---\nkind: ConfigMap\nmetadata: {{name: a}}\n"),
        format!("{object}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{generateName: a}}\n"),
        String::from("# nothing"),
        format!(
            "{{% for n in range(201) %}}\n---\n{}{{% endfor %}}",
            object.replace("name: a", "name: 'a{{ n }}'")
        ),
        config("  a: {{ 'x' * 2000000 }}"),
    ];
    let mut told = Vec::new();
    for template in mistakes {
        let shown = if template.len() > 400 { &template[..400] } else { &template };
        told.push(format!("{shown}\n  => {}", rendered(&template).await.unwrap_err()));
    }
    assert_snapshot!(told.join("\n\n"));
}

#[tokio::test]
async fn yaml_is_read_as_kubectl_reads_it() {
    let data =
        data("  mode: 0400\n  plain: 400\n  new: 0o755\n  text: '0400'\n  no: no\n  <<: {merged: 1}").await;
    assert_eq!(
        data,
        serde_json::json!({"mode": 256, "plain": 400, "new": 493, "text": "0400", "no": false, "merged": 1})
    );
    // As an editor for Windows leaves it, with documents that have nothing in them.
    let text = "\u{feff}apiVersion: v1\r\nkind: ConfigMap\r\nmetadata:\r\n  name: a\r\n---\r\n# nothing\r\n---\r\nkind: List\r\nitems: null\r\n";
    assert_eq!(rendered(text).await.unwrap().len(), 1);
}

/// Addresses of the API server are made of them: one with a `/` or a `?` in it would lead elsewhere.
#[tokio::test]
async fn an_object_that_is_called_by_more_than_a_name_is_refused() {
    let mut told = Vec::new();
    for (api_version, kind, name) in [
        ("v1%2fnamespaces%2fkube-system?", "ConfigMap", "a"),
        ("v1?", "ConfigMap", "a"),
        ("apps/v1/namespaces", "Deployment", "a"),
        ("/v1", "ConfigMap", "a"),
        ("v1", "Config Map", "a"),
        ("v1", "ConfigMap", "a/b"),
        ("v1", "ConfigMap", "a?dryRun=All"),
        ("v1", "ConfigMap", "a%2fb"),
        ("v1", "ConfigMap", ".."),
        ("v1", "ConfigMap", "yes"),
    ] {
        let text = format!("apiVersion: {api_version}\nkind: {kind}\nmetadata: {{name: {name}}}\n");
        told.push(rendered(&text).await.unwrap_err().to_string());
    }
    assert_snapshot!(told.join("\n"));
    rendered("apiVersion: v1\nkind: ServiceAccount\nmetadata: {name: 'a.b:c-1'}\n").await.unwrap();
}

#[tokio::test]
async fn marks_that_a_template_has_tampered_with_lead_nowhere() {
    let block = "{% set x %}{{ title }}{% endset %}";
    let mut told = Vec::new();
    for template in [
        // One that stands for itself.
        format!("{block}  a: {{{{ x | replace('0z', '1z') }}}}"),
        // Many in each other.
        format!("{block}{}  a: {{{{ x }}}}", "{% set x %}{{ x }}{% endset %}".repeat(60)),
        // More than there is room for, out of nothing.
        format!(
            "{{% set x = '' %}}{}  a: {{{{ x }}}}",
            format!("{{% set x %}}{}{{% endset %}}", "{{ x }}".repeat(30)).repeat(9)
        ),
    ] {
        told.push(rendered(&config(&template)).await.unwrap_err().to_string());
    }
    assert_snapshot!(told.join("\n"), @r"
    `k8s/app.yaml:1`: `a filter changes what a macro or a block wrote; apply it within`
    `k8s/app.yaml:1`: `what a macro or a block wrote is written again too many times over`
    `k8s/app.yaml:1`: `its values have more than 4 MiB`
    ");
}

#[tokio::test]
async fn a_folder_is_rendered_in_the_order_of_its_names_and_lists_are_taken_apart() {
    let tree = tempfile::tempdir().unwrap();
    let folder = tree.path().join(".greenroom/k8s");
    fs::create_dir_all(folder.join("jobs")).unwrap();
    let write = |name: &str, text: &str| fs::write(folder.join(name), text).unwrap();
    let named = |name: &str| format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\n");
    write("b.yml", &format!("{}{{% include '_more.yaml' %}}\n---\n{}", named("b1"), named("b2")));
    write(
        "a.yaml",
        "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: Service, metadata: {name: s}}\n- {apiVersion: v1, kind: Secret, metadata: {name: t}}\n",
    );
    write("_more.yaml", "data: {title: {{ title }}}\n");
    write("jobs/c.yaml", &named("c"));
    write("README.md", "{{ not a template }}");
    let rules = ManifestRules::default();
    let settings = settings("{manifests: .greenroom/k8s}");
    let found = render(&settings, tree.path(), &values(), &rules, &Tools::default()).await.unwrap();
    let lines: Vec<_> =
        found.iter().map(|manifest| format!("{}: {}", manifest.source, manifest.object)).collect();
    assert_snapshot!(lines.join("\n"), @r#"
    .greenroom/k8s/a.yaml:1: {"apiVersion":"v1","kind":"Service","metadata":{"name":"s"}}
    .greenroom/k8s/a.yaml:1: {"apiVersion":"v1","kind":"Secret","metadata":{"name":"t"}}
    .greenroom/k8s/b.yml:1: {"apiVersion":"v1","data":{"title":"Add \"search\": now"},"kind":"ConfigMap","metadata":{"name":"b1"}}
    .greenroom/k8s/b.yml:6 (document 2): {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"b2"}}
    .greenroom/k8s/jobs/c.yaml:1: {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"c"}}
    "#);
}

#[tokio::test]
async fn a_folder_without_templates_is_told_from_templates_without_objects() {
    let tree = tempfile::tempdir().unwrap();
    fs::create_dir_all(tree.path().join("k8s")).unwrap();
    fs::write(tree.path().join("k8s/a.json"), "{}").unwrap();
    let refused = async || {
        let rules = ManifestRules::default();
        render(&settings("{manifests: k8s}"), tree.path(), &values(), &rules, &Tools::default())
            .await
            .unwrap_err()
    };
    assert_snapshot!(refused().await, @"`k8s`: `there is no *.yaml and no *.yml in that folder`");
    fs::write(tree.path().join("k8s/a.yaml"), "# nothing\n").unwrap();
    assert_snapshot!(refused().await, @"`.greenroom.yml kubernetes`: `it renders to no objects at all`");
}

#[cfg(unix)]
#[tokio::test]
async fn links_are_refused_wherever_they_are() {
    use std::os::unix::fs::symlink;
    let tree = tempfile::tempdir().unwrap();
    let outside = tempfile::tempdir().unwrap();
    fs::write(outside.path().join("a.yaml"), config("  a: b")).unwrap();
    fs::create_dir(tree.path().join("k8s")).unwrap();
    symlink(outside.path().join("a.yaml"), tree.path().join("k8s/a.yaml")).unwrap();
    symlink(outside.path(), tree.path().join("linked")).unwrap();
    let mut told = Vec::new();
    for folder in ["k8s", "linked", "linked/sub", "missing", "k8s/a.yaml"] {
        let settings = settings(&format!("{{manifests: {folder}}}"));
        let rules = ManifestRules::default();
        let error = render(&settings, tree.path(), &values(), &rules, &Tools::default()).await.unwrap_err();
        told.push(error.to_string());
    }
    assert_snapshot!(told.join("\n"), @r"
    `k8s/a.yaml`: `a link, expected a file; links are not followed`
    `linked`: `leads over a link; links are not followed`
    `linked/sub`: `leads over a link; links are not followed`
    `missing`: `there is no such folder in the repository`
    `k8s/a.yaml`: `leads over a link; links are not followed`
    ");
}

#[tokio::test]
async fn texts_of_the_project_file_are_templates() {
    let values = values();
    let tools = Tools::default();
    let image_of = async |text: &str| {
        image(&settings(&format!("{{preset: web, image: '{text}'}}")), &values, &tools).await
    };
    let tagged = image_of("{{ registry_image }}/app:{{ sha }}").await.unwrap();
    assert_eq!(
        tagged.as_deref(),
        Some("registry.example/acme/web/app:0123456789abcdef0123456789abcdef01234567")
    );
    assert_snapshot!(image_of("{{ regisrty_image }}:{{ sha }}").await.unwrap_err(), @"`.greenroom.yml kubernetes.image`: `'regisrty_image' is undefined`");
    let without = Values { registry_image: None, ..values.clone() };
    let settings = settings("{preset: web, image: '{{ registry_image }}'}");
    assert_snapshot!(image(&settings, &without, &tools).await.unwrap_err(), @"`.greenroom.yml kubernetes.image`: `'registry_image' is undefined`");
}

#[tokio::test]
async fn a_program_that_is_not_installed_is_named() {
    let tree = tempfile::tempdir().unwrap();
    let mut told = Vec::new();
    for source in ["{helm: {chart: chart}}", "{kustomize: k8s}"] {
        let rules = ManifestRules::default();
        let error =
            render(&settings(source), tree.path(), &values(), &rules, &Tools::default()).await.unwrap_err();
        assert!(matches!(error, RenderError::Trouble(_)));
        told.push(error.to_string());
    }
    assert_snapshot!(told.join("\n"), @r"
    `helm is not installed on the server; the operator can install it in a folder of its 'PATH'`
    `kustomize is not installed on the server; the operator can install it in a folder of its 'PATH'`
    ");
}

#[tokio::test]
async fn a_check_by_a_job_is_a_job_of_the_same_kind_as_all_else() {
    let file = "version: 1\nengine: kubernetes\nkubernetes: {manifests: k8s}\nchecks: [{job: [./smoke.sh], image: '{{ registry_image }}/smoke', timeout: 90s}, {job: [a]}]\n";
    let file = ProjectFile::parse(file).unwrap();
    let Workload::Kubernetes(settings) = &file.workload else { panic!("{file:?}") };
    let tools = Tools::default();
    let job = async |number: usize| {
        let crate::render::Check::Job(check) = &file.checks[number - 1] else { panic!("{file:?}") };
        let image = check_image(check, &values(), &tools).await.unwrap();
        let check = JobCheck { image, ..check.clone() };
        check_job(&check, number, "0a1b2c3d", settings, &values(), &ManifestRules::default(), &tools).await
    };
    assert_snapshot!(serde_saphyr::to_string(&job(1).await.unwrap().object).unwrap());
    assert_snapshot!(job(2).await.unwrap_err(), @"`.greenroom.yml checks`: `a job needs an image here, the preview names none`");
}

#[test]
fn a_password_stays_and_is_nobody_elses() {
    let password = |values: &Values| values.plain().unwrap()["password"].as_str().unwrap().to_owned();
    let ours = password(&values());
    assert_eq!(ours.len(), 32);
    assert_eq!(ours, password(&Values { title: "other".into(), ..values() }));
    assert_ne!(ours, password(&Values { name: PreviewName::parse("web-42-mr-8").unwrap(), ..values() }));
    let another = Some(SecretString::from("another"));
    assert_ne!(ours, password(&Values { password_key: another, ..values() }));
    let none = Values { password_key: None, ..values() };
    assert!(none.plain().unwrap().get("password").is_none(), "what is made up anew each time is no password");
}

/// The names in the first column of a table of docs/templates.md.
fn documented(heading: &str) -> Vec<String> {
    let text = include_str!("../../../docs/templates.md");
    let (_, section) = text.split_once(&format!("\n## {heading}\n")).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let rows = section.lines().filter_map(|line| line.strip_prefix("| `")?.split_once('`'));
    rows.map(|(name, _)| name.to_owned()).collect()
}

#[test]
fn the_documented_values_and_presets_are_those_that_are_there() {
    let mut values: Vec<_> = Values { configured: [].into(), ..values() }
        .plain()
        .unwrap()
        .as_object()
        .unwrap()
        .keys()
        .cloned()
        .collect();
    let mut told = documented("Values");
    values.sort();
    told.sort();
    assert_eq!(values, told);
    let text = include_str!("../../../docs/templates.md");
    for (name, purpose) in presets() {
        assert!(
            text.contains(&format!("| `{name}` | {purpose} |")),
            "docs/templates.md has no row for {name}"
        );
    }
    assert_eq!(documented("Presets").len(), presets().count());
    for exception in Exception::ALL {
        assert!(text.contains(&format!("`{}`", exception.as_str())), "{exception:?} is not documented");
    }
}
