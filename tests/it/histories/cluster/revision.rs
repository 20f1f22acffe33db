//! What a push has: the project's files at one commit, and what must come of them.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::kubernetes::town::App;
use crate::support::cluster::kubelet::Says;

const IMAGES: &str = "registry.test/acme/web";

/// What is wrong with a revision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Flaw {
    /// Its program ends again and again.
    Crashes,
    /// Its image is not there.
    NoImage,
    /// Its Job ends badly.
    JobFails,
    /// One of its objects is of a kind that no preview may have.
    Forbidden,
    /// The API server does not take one of its objects.
    Invalid,
    /// Its `.greenroom.yml` cannot be used.
    BadFile,
}

/// What one commit has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Revision {
    /// In the name of its image and in its texts.
    pub number: usize,
    /// Which ConfigMaps it has, out of [`MAPS`], one bit for each.
    pub maps: u8,
    pub job: bool,
    /// Its Deployment selects by this, which cannot be changed in place.
    pub selector: u8,
    pub flaw: Option<Flaw>,
}

const MAPS: [&str; 3] = ["first", "second", "third"];

impl Revision {
    pub fn image(&self) -> String {
        let repository = match self.flaw {
            Some(Flaw::Crashes) => Says::CrashLoop.image(IMAGES),
            Some(Flaw::NoImage) => Says::ImageMissing.image(IMAGES),
            _ => IMAGES.to_owned(),
        };
        format!("{repository}:{}", self.number)
    }

    /// Whether anything of it reaches the cluster.
    pub fn is_sent(&self) -> bool {
        !matches!(self.flaw, Some(Flaw::Forbidden | Flaw::BadFile))
    }

    pub fn maps(&self) -> impl Iterator<Item = &'static str> + use<> {
        let bits = self.maps;
        MAPS.into_iter().enumerate().filter(move |(bit, _)| bits & (1 << bit) != 0).map(|(_, name)| name)
    }

    /// The project's files; a later push replaces all of them.
    pub fn files(&self) -> Vec<(&'static str, String)> {
        let app = App { image: self.image(), config_maps: self.maps().collect(), ..App::works(0) };
        let [(file, project), (deployment, template), service, (maps, texts)] = app.files();
        let project = if self.flaw == Some(Flaw::BadFile) {
            project.replace("manifests:", "manifest:")
        } else {
            project
        };
        let template = template
            .replace("spec:\n  selector:", "spec:\n  replicas: 1\n  selector:")
            .replace("app: web}", &format!("app: web, half: h{}}}", self.selector));
        let texts = texts.replace("{{ name }}", &self.number.to_string());
        let mut extra = Vec::new();
        if self.job {
            extra.push(self.seed());
        }
        match self.flaw {
            Some(Flaw::Forbidden) => extra.push(json!({
                "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole", "metadata": { "name": "all" },
            })),
            Some(Flaw::Invalid) => extra.push(json!({
                "apiVersion": "v1", "kind": "Service", "metadata": { "name": "wrong" },
                "spec": { "ports": [{ "port": 70_000 }] },
            })),
            _ => {}
        }
        let extra = extra.iter().map(Value::to_string).collect::<Vec<_>>().join("\n---\n");
        vec![
            (file, project),
            (deployment, template),
            service,
            (maps, texts),
            (".greenroom/k8s/extra.yaml", format!("# nothing else\n---\n{extra}\n")),
        ]
    }

    /// A Job, whose template cannot be changed in place, and changes with every revision.
    fn seed(&self) -> Value {
        let fails = self.flaw == Some(Flaw::JobFails);
        let repository = if fails { Says::Fails.image(IMAGES) } else { IMAGES.to_owned() };
        json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": "seed" },
            "spec": { "backoffLimit": 0, "template": { "spec": {
                "restartPolicy": "Never",
                "securityContext": {
                    "runAsNonRoot": true, "runAsUser": 1000, "seccompProfile": { "type": "RuntimeDefault" },
                },
                "containers": [{
                    "name": "seed", "image": format!("{repository}:{}", self.number),
                    "resources": { "requests": { "cpu": "10m" }, "limits": { "memory": "16Mi" } },
                    "securityContext": {
                        "allowPrivilegeEscalation": false, "capabilities": { "drop": ["ALL"] },
                    },
                }],
            } } },
        })
    }

    /// What of it is in the cluster, as [`said`] says it of each object; guards included.
    pub fn objects(&self, awake: bool) -> BTreeSet<String> {
        let mut objects = BTreeSet::from([
            format!("Deployment web: {} of {}, h{}", u8::from(awake), self.image(), self.selector),
            "Service web: 80 to web".to_owned(),
            "NetworkPolicy greenroom: guards both ways".to_owned(),
            "ResourceQuota greenroom: 30 pods".to_owned(),
            "LimitRange greenroom: 512Mi".to_owned(),
        ]);
        objects.extend(self.maps().map(|name| format!("ConfigMap {name}: {}", self.number)));
        if self.job {
            objects.insert(format!("Job seed: {IMAGES}:{}", self.number));
        }
        objects
    }
}

/// What matters of an object, in words; nothing of what Kubernetes makes by itself.
pub fn said(kind: &str, object: &Value) -> Option<String> {
    let name = object["metadata"]["name"].as_str()?;
    let text = |pointer: &str| {
        let value = object.pointer(pointer).unwrap_or(&Value::Null);
        value.as_str().map_or_else(|| value.to_string(), str::to_owned)
    };
    let what = match kind {
        "Deployment" => format!(
            "{} of {}, {}",
            text("/spec/replicas"),
            text("/spec/template/spec/containers/0/image"),
            text("/spec/selector/matchLabels/half")
        ),
        "Service" => format!("{} to {}", text("/spec/ports/0/port"), text("/spec/selector/app")),
        "ConfigMap" if name == "kube-root-ca.crt" => return None,
        "ConfigMap" => text("/data/title"),
        "Job" => text("/spec/template/spec/containers/0/image"),
        "NetworkPolicy" => {
            let spec = &object["spec"];
            let whole = spec["podSelector"] == json!({})
                && spec["policyTypes"] == json!(["Ingress", "Egress"])
                && spec["ingress"].as_array().is_some_and(|rules| rules.len() == 1)
                && spec["egress"].as_array().is_some_and(|rules| rules.len() == 2);
            if whole { "guards both ways".to_owned() } else { spec.to_string() }
        }
        "ResourceQuota" => format!("{} pods", text("/spec/hard/pods")),
        "LimitRange" => text("/spec/limits/0/default/memory"),
        _ => String::new(),
    };
    Some(format!("{kind} {name}: {what}"))
}
