//! `greenroom render`: what a project's previews would be made of, printed. Nobody is asked: neither GitLab nor a cluster.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::{Args as _, FromArgMatches as _};
use secrecy::SecretString;

use super::{Failure, clusters, output};
use crate::preview::{BranchId, PreviewKey, PreviewName, Sha, Subject};
use crate::render::kubernetes::{ManifestRules, RenderError, Tools, Values, render};
use crate::render::{KubernetesSettings, PROJECT_FILE, ProjectFile, Workload};
use crate::settings::RenderedJob;

/// A commit for those who do not care which.
const SOME_SHA: &str = "0123456789abcdef0123456789abcdef01234567";

#[derive(Debug, clap::Args)]
pub(super) struct Flags {
    /// A checkout with a `.greenroom.yml`.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Render this preset, whatever the `.greenroom.yml` says.
    #[arg(long, value_name = "NAME", requires = "image")]
    preset: Option<String>,
    /// The image. Default: as the `.greenroom.yml` says.
    #[arg(long)]
    image: Option<String>,
    /// A folder with presets of your own, a folder for each.
    #[arg(long, value_name = "FOLDER")]
    presets: Option<PathBuf>,
    /// The commit. Default: CI_COMMIT_SHA, else an example.
    #[arg(long)]
    sha: Option<String>,
    /// The merge request's number. Default: CI_MERGE_REQUEST_IID, else 1.
    #[arg(long)]
    iid: Option<u64>,
    /// The merge request's title. Default: CI_MERGE_REQUEST_TITLE, else an example.
    #[arg(long)]
    title: Option<String>,
    /// The merge request's branch. Default: CI_COMMIT_REF_NAME, else `feature`.
    #[arg(long)]
    branch: Option<String>,
    /// The merge request's author.
    #[arg(long, default_value = "somebody")]
    author: String,
    /// The preview's name, which is its namespace, too. Default: as the job's merge request has it, else `app-1-mr-1`.
    #[arg(long)]
    name: Option<String>,
    /// The preview's host. Default: its name below `preview.example`.
    #[arg(long)]
    host: Option<String>,
    /// The project's image in the registry. Default: CI_REGISTRY_IMAGE, else an example.
    #[arg(long)]
    registry_image: Option<String>,
    /// A value such as the operator configures, as `name=text`; may be given often.
    #[arg(long, value_name = "NAME=TEXT", value_parser = pair)]
    value: Vec<(String, String)>,
}

pub(super) fn pair(text: &str) -> Result<(String, String), String> {
    let (name, value) = text.split_once('=').ok_or("expected name=text")?;
    Ok((name.to_owned(), value.to_owned()))
}

pub(super) async fn run(flags: Flags) -> Result<(), Failure> {
    let settings = settings_of(&flags)?;
    let values = values_of(&flags)?;
    let tools = Tools { presets: flags.presets, ..clusters::tools() };
    // Whether the operator gives them is not known here.
    let secrets = settings.secrets.iter().map(ToString::to_string).collect();
    let rules = ManifestRules { secrets, ..ManifestRules::default() };
    let manifests = match render(&settings, &flags.folder, &values, &rules, &tools).await {
        Ok(manifests) => manifests,
        Err(error @ RenderError::Refused { .. }) => return Err(Failure::Findings(error.to_string())),
        Err(error) => return Err(error.into()),
    };
    let mut texts = Vec::new();
    for manifest in manifests {
        let yaml =
            serde_saphyr::to_string(&manifest.object).context("an object cannot be written as YAML")?;
        texts.push(format!("# {}\n{}", manifest.source, yaml.trim_end()));
    }
    output::data(&texts.join("\n---\n"));
    Ok(())
}

/// Whether a preview can be rendered at all, with a merge request that is made up.
pub(super) async fn try_out(
    settings: &KubernetesSettings,
    folder: &Path,
    configured: BTreeMap<String, serde_json::Value>,
    rules: ManifestRules,
) -> Result<(), RenderError> {
    let made_up = Flags::augment_args(clap::Command::new("render")).no_binary_name(true);
    let made_up = Flags::from_arg_matches(&made_up.get_matches_from::<_, &str>([]));
    let values = made_up.map_err(Failure::from).and_then(|flags| values_of(&flags));
    let values = values.map_err(|failure| RenderError::Trouble(failure.told()))?;
    let tools = clusters::tools();
    render(settings, folder, &Values { configured, ..values }, &rules, &tools).await.map(drop)
}

fn settings_of(flags: &Flags) -> Result<KubernetesSettings, Failure> {
    let (name, text) = if let (Some(preset), Some(image)) = (&flags.preset, &flags.image) {
        let kubernetes = serde_json::json!({ "preset": preset, "image": image });
        (String::from("--preset"), format!("version: 1\nengine: kubernetes\nkubernetes: {kubernetes}\n"))
    } else {
        let path = flags.folder.join(PROJECT_FILE);
        let text =
            std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        (path.display().to_string(), text)
    };
    let file = ProjectFile::parse(&text).map_err(|error| Failure::Findings(format!("{name}: {error}")))?;
    match file.workload {
        Workload::Kubernetes(settings) => Ok(*settings),
        Workload::Static(_) => Err(Failure::Findings(format!(
            "{name}: engine static serves a job's artifact as it is, there is nothing to render"
        ))),
    }
}

fn values_of(flags: &Flags) -> Result<Values, Failure> {
    let wrong = |flag: &str, why: &str| Failure::Findings(format!("error: --{flag} {why}"));
    let job = RenderedJob::read();
    let or = |flag: &Option<String>, job: Option<String>, example: &str| {
        flag.clone().or(job).unwrap_or_else(|| example.to_owned())
    };
    let sha = Sha::parse(&or(&flags.sha, job.ci_commit_sha, SOME_SHA))
        .ok_or_else(|| wrong("sha", "is no full commit id"))?;
    let head = job.ci_merge_request_source_branch_sha.filter(|_| flags.sha.is_none());
    let branch = or(&flags.branch, job.ci_commit_ref_name, "feature");
    let of_branch = job.ci_commit_branch.as_deref().filter(|_| job.ci_open_merge_requests.is_none());
    let subject = match flags.iid.or(job.ci_merge_request_iid) {
        Some(iid) => Subject::MergeRequest(iid),
        None => of_branch.and_then(BranchId::of).map_or(Subject::MergeRequest(1), Subject::Branch),
    };
    let own = job.ci_project_path.zip(job.ci_project_id);
    let own =
        own.map(|(path, id)| PreviewName::new(&path, PreviewKey::new(id, subject), &branch).to_string());
    let name = PreviewName::parse(&or(&flags.name, own, "app-1-mr-1"))
        .ok_or_else(|| wrong("name", "is no DNS label"))?;
    let host = flags.host.clone().unwrap_or_else(|| format!("{name}.preview.example"));
    let configured = flags.value.iter().map(|(name, text)| (name.clone(), text.as_str().into()));
    Ok(Values {
        head_sha: head.as_deref().and_then(Sha::parse).unwrap_or_else(|| sha.clone()),
        sha,
        name,
        url: format!("https://{host}"),
        host,
        iid: subject.iid(),
        title: or(&flags.title, job.ci_merge_request_title, "A merge request"),
        branch,
        author: flags.author.clone(),
        registry_image: Some(or(&flags.registry_image, job.ci_registry_image, "registry.example/group/app")),
        image: flags.image.clone(),
        configured: configured.collect::<BTreeMap<_, _>>(),
        // What is printed must not be the password of anything.
        password_key: Some(SecretString::from("offline")),
    })
}
