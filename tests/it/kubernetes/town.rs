//! Everything a story about a cluster needs: a GitLab whose project has Kubernetes manifests, greenroom, and the cluster.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::support::{PATIENCE, cluster::Cluster, gitlab::Gitlab, until, world::World};

/// What a project's manifests say.
#[derive(Debug, Clone)]
pub struct App {
    /// The image of its one container.
    pub image: String,
    /// What the container asks for.
    pub cpu: &'static str,
    /// Names of its ConfigMaps, beside the Deployment `web` and the Service `web`.
    pub config_maps: Vec<&'static str>,
    /// The project's own checks, as its file has them.
    pub checks: String,
}

impl App {
    /// One that runs, in this version.
    pub fn works(version: u32) -> Self {
        Self {
            image: format!("registry.test/acme/web:{version}"),
            cpu: "10m",
            config_maps: Vec::new(),
            checks: String::new(),
        }
    }

    pub fn with_image(image: &str) -> Self {
        Self { image: format!("{image}:1"), ..Self::works(1) }
    }

    /// The project's files: templates in the folder that its project file names.
    pub fn files(&self) -> [(&'static str, String); 4] {
        let Self { image, cpu, .. } = self;
        let deployment = format!(
            r"apiVersion: apps/v1
kind: Deployment
metadata:
  name: web
spec:
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata:
      labels: {{app: web}}
    spec:
      securityContext: {{runAsNonRoot: true, runAsUser: 1000, seccompProfile: {{type: RuntimeDefault}}}}
      containers:
      - name: web
        image: {image}
        ports: [{{containerPort: 8080}}]
        resources: {{requests: {{cpu: {cpu}, memory: 16Mi}}, limits: {{memory: 64Mi}}}}
        securityContext: {{allowPrivilegeEscalation: false, capabilities: {{drop: [ALL]}}}}
        readinessProbe: {{httpGet: {{path: /healthz, port: 8080}}}}
        env: [{{name: URL, value: '{{{{ url }}}}'}}]
"
        );
        let service = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec:\n  selector: {app: web}\n  ports: [{port: 80, targetPort: 8080}]\n";
        let config_maps = self.config_maps.iter().map(|name| {
            format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{title: '{{{{ name }}}}'}}\n")
        });
        let config_maps = config_maps.collect::<Vec<_>>().join("---\n");
        [
            (".greenroom.yml", format!("{PROJECT_FILE}checks: [{}]\n", self.checks)),
            (".greenroom/k8s/deployment.yaml", deployment),
            (".greenroom/k8s/service.yaml", service.to_owned()),
            (".greenroom/k8s/config.yaml", config_maps),
        ]
    }
}

const PROJECT_FILE: &str = "version: 1\nengine: kubernetes\nkubernetes:\n  manifests: .greenroom/k8s\n";

/// Greenroom, its GitLab and its cluster.
pub struct Town<'a> {
    pub world: World,
    pub cluster: &'a Cluster,
    name: String,
}

impl<'a> Town<'a> {
    /// Where greenroom may do everything in the cluster. `name` is that of the project and of greenroom's account, and no
    /// other test's: tests share the cluster, and a namespace is named after the project.
    pub async fn start(cluster: &'a Cluster, name: &str) -> Self {
        Self::start_with(cluster, name, &[], "").await
    }

    /// The same with these settings and this `greenroom.toml`.
    pub async fn start_with(cluster: &'a Cluster, name: &str, settings: &[(&str, &str)], file: &str) -> Self {
        let kubeconfig = cluster.administrator(name).await;
        Self::start_as(cluster, name, &kubeconfig, settings, file).await
    }

    /// Where greenroom has this kubeconfig.
    pub async fn start_as(
        cluster: &'a Cluster,
        name: &str,
        kubeconfig: &Path,
        settings: &[(&str, &str)],
        file: &str,
    ) -> Self {
        let path: PathBuf = kubeconfig.into();
        // Tests share the cluster: an id of its own says that the others' things are no reason to stand back.
        let usual = [("GREENROOM_KUBECONFIG", path.to_str().expect("UTF-8")), ("GREENROOM_INSTANCE", name)];
        let settings = [usual.as_slice(), settings].concat();
        let world = World::of_project(&format!("acme/{name}"), &settings, file).await;
        Self { world, cluster, name: name.to_owned() }
    }

    /// Where the merge request's preview lives.
    pub fn namespace(&self, mr: u64) -> String {
        format!("{}-{}-mr-{mr}", self.name, Gitlab::PROJECT)
    }

    /// Opens a merge request with this app; its pipeline has not run yet.
    pub async fn open(&self, branch: &str, app: &App) -> u64 {
        self.push(branch, app).await;
        self.world.gitlab.open_mr(branch, branch).await
    }

    /// A new head.
    pub async fn push(&self, branch: &str, app: &App) {
        let files = app.files();
        let files: Vec<_> = files.iter().map(|(path, text)| (*path, text.as_str())).collect();
        self.world.gitlab.push(branch, &files).await;
    }

    /// The head's pipeline runs and passes.
    pub async fn pass(&self, mr: u64) {
        let pipeline = self.world.gitlab.start_pipeline(mr).await;
        self.world.gitlab.act(&format!("pipelines/{}/finish", pipeline.id), json!({})).await;
    }

    /// Opens a merge request whose preview is ready when this returns.
    pub async fn ready(&self, branch: &str, app: &App) -> u64 {
        let mr = self.open(branch, app).await;
        self.pass(mr).await;
        self.world.becomes(mr, "ready").await;
        mr
    }

    /// A new head with this app, and its pipeline has passed.
    pub async fn update(&self, mr: u64, branch: &str, app: &App) {
        self.push(branch, app).await;
        self.pass(mr).await;
    }

    /// An object of the preview.
    pub async fn object(&self, mr: u64, kind: &str, name: &str) -> Option<Value> {
        self.cluster.get(kind, &self.namespace(mr), name).await
    }

    /// The images of all pods that are ready, in order.
    pub async fn runs(&self, mr: u64) -> Vec<String> {
        let pods = self.cluster.list("pods", &self.namespace(mr)).await;
        let ready = |pod: &&Value| {
            pod["metadata"]["deletionTimestamp"].is_null()
                && pod["status"]["conditions"].as_array().is_some_and(|conditions| {
                    conditions.iter().any(|one| one["type"] == "Ready" && one["status"] == "True")
                })
        };
        let image =
            |pod: &Value| pod["spec"]["containers"][0]["image"].as_str().expect("an image").to_owned();
        let mut images: Vec<_> = pods.iter().filter(ready).map(image).collect();
        images.sort();
        images
    }

    /// Waits until nothing but this app runs.
    pub async fn serves(&self, mr: u64, app: &App) {
        until(&format!("!{mr} runs {}", app.image), PATIENCE, || async {
            let images = self.runs(mr).await;
            if images == [app.image.clone()] { Ok(()) } else { Err(images) }
        })
        .await;
    }

    /// Nothing is left of it: not in the cluster, not in GitLab.
    pub async fn is_gone(&self, mr: u64) {
        let left = self.cluster.get("namespaces", "", &self.namespace(mr)).await;
        assert!(left.is_none(), "the cluster still has {left:#?}");
        let name = format!("review/mr-{mr}");
        let environments = self.world.gitlab.environments().await;
        let left: Vec<_> = environments.into_iter().filter(|one| one["name"] == *name).collect();
        assert!(left.is_empty(), "GitLab still has an environment of !{mr}: {left:#?}");
    }

    /// Waits until the preview's reason has all of these words, in whatever state.
    pub async fn says(&self, mr: u64, words: &[&str]) -> Value {
        until(&format!("!{mr} says {words:?}"), PATIENCE, || async {
            let preview = self.world.preview(mr).await.ok_or_else(|| json!("no preview is known"))?;
            let text = format!("{preview} {}", self.world.gitlab.comment(mr).await.unwrap_or_default());
            if words.iter().all(|word| text.contains(word)) { Ok(preview) } else { Err(json!(text)) }
        })
        .await
    }
}
