//! What the presets make.

use super::*;

async fn preset(yaml: &str, rules: &ManifestRules) -> String {
    let nowhere = std::path::Path::new("/nowhere");
    let manifests = render(&settings(yaml), nowhere, &values(), rules, &Tools::default()).await.unwrap();
    let texts = manifests.iter().map(|manifest| {
        format!("# {}\n{}", manifest.source, serde_saphyr::to_string(&manifest.object).unwrap())
    });
    texts.collect::<Vec<_>>().join("---\n")
}

#[tokio::test]
async fn the_shortest_web() {
    let yaml = "{preset: web, image: '{{ registry_image }}:{{ sha }}'}";
    assert_snapshot!(preset(yaml, &ManifestRules::default()).await);
}

#[tokio::test]
async fn a_web_with_all_it_can_have() {
    let yaml = "
  preset: web
  image: '{{ registry_image }}:{{ sha }}'
  port: 3000
  env: {LOG_LEVEL: debug, TITLE: '{{ title }}'}
  secrets: [API_KEY]
  replicas: 2
  resources: {requests: {cpu: 100m, memory: 64Mi}, limits: {memory: 512Mi}}
  probe: {http: /healthz, starts_within: 5m}
  command: [/bin/app]
  args: [--url, '{{ url }}']
  user: 1000
  writable_root: true
  volumes: [{name: data, path: /var/lib/app, size: 1Gi}, {name: cache, path: /cache}]
  metrics: {port: 9090}
  autoscale: {max: 3}";
    let rules = ManifestRules {
        exposure: Exposure::Gateway {
            name: "public".into(),
            namespace: "gateways".into(),
            section: Some("https".into()),
        },
        secrets: ["API_KEY".to_owned()].into(),
        ..ManifestRules::default()
    };
    assert_snapshot!(preset(yaml, &rules).await);
}

#[tokio::test]
async fn a_web_with_a_database() {
    let yaml =
        "{preset: web-postgres, image: 'a:1', seed: {command: [bin/seed]}, probe: {command: [bin/ready]}}";
    let rules = ManifestRules {
        exposure: Exposure::Ingress { class: Some("nginx".into()) },
        tls_secret: Some("wildcard".into()),
        ..ManifestRules::default()
    };
    assert_snapshot!(preset(yaml, &rules).await);
}

#[tokio::test]
async fn a_worker() {
    assert_snapshot!(preset("{preset: worker, image: 'a:1'}", &ManifestRules::default()).await);
}

#[tokio::test]
async fn a_preset_or_a_secret_that_is_not_there_is_named() {
    let mut told = Vec::new();
    for yaml in ["{preset: wbe, image: a}", "{preset: web, image: a, secrets: [API_KEY]}"] {
        let rules = ManifestRules::default();
        let nowhere = std::path::Path::new("/nowhere");
        let error = render(&settings(yaml), nowhere, &values(), &rules, &Tools::default()).await.unwrap_err();
        told.push(error.to_string());
    }
    assert_snapshot!(told.join("\n"), @r"
    `.greenroom.yml kubernetes.preset`: `there is no preset wbe, expected one of web, web-postgres, worker`
    `.greenroom.yml kubernetes.secrets`: `the operator has given this project no secret API_KEY`
    ");
}

#[tokio::test]
async fn the_operators_own_preset_wins() {
    let presets = tempfile::tempdir().unwrap();
    fs::create_dir(presets.path().join("web")).unwrap();
    fs::write(presets.path().join("web/a.yaml"), config("  image: {{ image }}")).unwrap();
    let tools = Tools { presets: Some(presets.path().to_owned()), ..Tools::default() };
    let rules = ManifestRules::default();
    let nowhere = std::path::Path::new("/nowhere");
    let found =
        render(&settings("{preset: web, image: 'a:1'}"), nowhere, &values(), &rules, &tools).await.unwrap();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].object["data"]["image"], "a:1");
    assert_eq!(found[0].source.to_string(), "preset web/a.yaml:1");
}

#[test]
fn every_file_of_the_presets_folder_is_in_the_program() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR")).join("templates/kubernetes");
    let mut there: Vec<String> = Vec::new();
    let folders = fs::read_dir(top).unwrap().map(|entry| entry.unwrap().path());
    for folder in folders.filter(|path| path.is_dir()) {
        there.extend(
            fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()),
        );
    }
    there.sort();
    let known: Vec<_> = preset::files("web-postgres", None).unwrap().into_keys().collect();
    assert_eq!(there, known);
}
