//! The smallest typed part of each payload: what it takes to name a merge request or a branch, and nothing else.
//!
//! GitLab adds, drops and retypes fields with every release and leaves out plenty on old servers, so every field is
//! optional, and whatever is not listed here is skipped without being looked at: a surprise in it costs nothing.
//!
//! Of what is read, only text that can be stored leaves this file. Deliveries share a transaction, so one that the
//! database refuses (a NUL, an id beyond 63 bits) would take others down with it; see [`id`] and [`text`].

use serde::Deserialize;
use serde::de::DeserializeOwned;
use url::Url;

use crate::preview::ProjectId;

/// The longest path or branch taken, in bytes. GitLab's own limits are below it, a database's limit on keys above.
const LONGEST: usize = 1024;

/// Why a payload cannot be used. Names fields and positions only, never what is in them.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Unreadable(pub(super) String);

/// Reads the part of `body` that `T` lists.
pub(super) fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Unreadable> {
    serde_json::from_slice(body).map_err(|error| unreadable::<T>(body, &error))
}

/// Says why `body` cannot be read. It is read once more for that, since only an odd one should cost the time that it takes
/// to remember which field is being read.
fn unreadable<T: DeserializeOwned>(body: &[u8], error: &serde_json::Error) -> Unreadable {
    let mut json = serde_json::Deserializer::from_slice(body);
    match serde_path_to_error::deserialize::<_, T>(&mut json) {
        Err(error) if error.inner().is_data() => match error.path().to_string().as_str() {
            "." => Unreadable("the body is no JSON object".into()),
            field => Unreadable(format!("`{field}` is of an unexpected type")),
        },
        _ => Unreadable(format!(
            "the body is not JSON from line {}, column {} on",
            error.line(),
            error.column()
        )),
    }
}

/// `value`, which no meaning can do without.
fn need<T>(value: Option<T>, field: &str) -> Result<T, Unreadable> {
    value.ok_or_else(|| Unreadable(format!("`{field}` is missing")))
}

/// `number`, if it can be an id: GitLab's are signed 64-bit numbers, as are the store's.
pub(super) fn fit(number: u64) -> Option<u64> {
    i64::try_from(number).is_ok().then_some(number)
}

fn id(value: Option<u64>, field: &str) -> Result<u64, Unreadable> {
    fit(need(value, field)?).ok_or_else(|| Unreadable(format!("`{field}` is too large for an id")))
}

/// The name of a branch or the path of a project. Neither git nor GitLab allows control characters in them.
fn text(value: Option<String>, field: &str) -> Result<String, Unreadable> {
    let text = need(value, field)?;
    if text.is_empty() || text.len() > LONGEST || text.contains(char::is_control) {
        return Err(Unreadable(format!("`{field}` is empty, too long or has control characters")));
    }
    Ok(text)
}

/// What every payload says of itself: one of the two, and only system and group hooks leave out the first.
#[derive(Debug, Deserialize)]
pub(super) struct Kind {
    pub(super) object_kind: Option<String>,
    pub(super) event_name: Option<String>,
}

/// A project, as far as a hint needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) id: ProjectId,
    pub(super) path: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Project {
    id: Option<ProjectId>,
    path_with_namespace: Option<String>,
    web_url: Option<String>,
}

/// Where an event happened. System hooks and old servers leave `project.id` out and have only `project_id`.
pub(super) fn place(project: Option<Project>, project_id: Option<ProjectId>) -> Result<Place, Unreadable> {
    let project = need(project, "project")?;
    Ok(Place {
        id: id(project.id.or(project_id), "project.id")?,
        path: text(project.path_with_namespace, "project.path_with_namespace")?,
    })
}

#[derive(Debug, Deserialize)]
pub(super) struct MergeRequestHook {
    project: Option<Project>,
    object_attributes: Option<MergeRequestAttributes>,
}

#[derive(Debug, Deserialize)]
struct MergeRequestAttributes {
    iid: Option<u64>,
    target_project_id: Option<ProjectId>,
    target: Option<Project>,
    action: Option<String>,
}

impl MergeRequestHook {
    /// The project that the merge request is in, its number there, and what happened to it, if that is told.
    pub(super) fn read(self) -> Result<(Place, u64, Option<String>), Unreadable> {
        let it = need(self.object_attributes, "object_attributes")?;
        let iid = id(it.iid, "object_attributes.iid")?;
        Ok((place(it.target.or(self.project), it.target_project_id)?, iid, it.action))
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct PipelineHook {
    project: Option<Project>,
    object_attributes: Option<PipelineAttributes>,
    merge_request: Option<PipelineMergeRequest>,
}

#[derive(Debug, Deserialize)]
struct PipelineAttributes {
    r#ref: Option<String>,
    tag: Option<bool>,
    status: Option<String>,
}

#[derive(Debug, Deserialize)]
struct PipelineMergeRequest {
    iid: Option<u64>,
    target_project_id: Option<ProjectId>,
    url: Option<String>,
}

/// Whose pipeline or job it is.
#[derive(Debug)]
pub(super) enum Owner {
    MergeRequest(u64),
    Ref { name: String, tag: bool },
}

impl PipelineHook {
    /// GitLab's word for where the pipeline stands.
    pub(super) fn status(&self) -> Option<&str> {
        self.object_attributes.as_ref()?.status.as_deref()
    }

    /// Whose pipeline it is. That of a fork may run in the fork; its merge request is in the parent all the same.
    pub(super) fn read(self) -> Result<(Place, Owner), Unreadable> {
        let project = need(self.project, "project")?;
        if let Some(it) = self.merge_request {
            let iid = id(it.iid, "merge_request.iid")?;
            let place = match it.target_project_id {
                Some(target) if project.id != Some(target) => Place {
                    id: id(Some(target), "merge_request.target_project_id")?,
                    path: text(project_of_url(it.url.as_deref(), &project), "merge_request.url")?,
                },
                _ => place(Some(project), None)?,
            };
            return Ok((place, Owner::MergeRequest(iid)));
        }
        let it = need(self.object_attributes, "object_attributes")?;
        let name = text(it.r#ref, "object_attributes.ref")?;
        Ok((place(Some(project), None)?, Owner::Ref { name, tag: it.tag.unwrap_or(false) }))
    }
}

/// The path of the project that the page of a merge request belongs to. GitLab may be installed below a folder of its
/// host; which one is known from another project of the same server.
fn project_of_url(merge_request: Option<&str>, neighbour: &Project) -> Option<String> {
    let url = Url::parse(merge_request?).ok()?;
    let neighbour_url = Url::parse(neighbour.web_url.as_deref()?).ok()?;
    let folder = neighbour_url.path().strip_suffix(neighbour.path_with_namespace.as_deref()?)?;
    let (path, _) = url.path().strip_prefix(folder)?.rsplit_once("/merge_requests/")?;
    Some(path.strip_suffix("/-").unwrap_or(path).to_owned())
}

#[derive(Debug, Deserialize)]
pub(super) struct JobHook {
    project: Option<Project>,
    project_id: Option<ProjectId>,
    repository: Option<Repository>,
    r#ref: Option<String>,
    tag: Option<bool>,
    pub(super) build_status: Option<String>,
    pub(super) environment: Option<JobEnvironment>,
}

#[derive(Debug, Deserialize)]
struct Repository {
    git_ssh_url: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct JobEnvironment {
    pub(super) name: Option<String>,
    pub(super) action: Option<String>,
}

impl JobHook {
    /// Where the job ran. Older servers send no `project`, and a `project_name` that is no path; the repository's address
    /// has the path (the one for SSH, because it never has the folder that GitLab may be installed in).
    pub(super) fn place(&mut self) -> Result<Place, Unreadable> {
        if self.project.is_some() {
            return place(self.project.take(), self.project_id);
        }
        let address = self.repository.as_ref().and_then(|it| it.git_ssh_url.as_deref());
        Ok(Place {
            id: id(self.project_id, "project_id")?,
            path: text(address.and_then(project_of_address), "repository.git_ssh_url")?,
        })
    }

    /// What the job ran for.
    pub(super) fn reference(self) -> Result<Owner, Unreadable> {
        Ok(Owner::Ref { name: text(self.r#ref, "ref")?, tag: self.tag.unwrap_or(false) })
    }
}

/// The project's path in `git@host:path.git` or `ssh://git@host:22/path.git`.
fn project_of_address(address: &str) -> Option<String> {
    let address = address.strip_suffix(".git")?;
    let (_, path) = match address.split_once("://") {
        Some((_, rest)) => rest.split_once('/')?,
        None => address.split_once(':')?,
    };
    Some(path.to_owned())
}

#[derive(Debug, Deserialize)]
pub(super) struct PushHook {
    project: Option<Project>,
    project_id: Option<ProjectId>,
    r#ref: Option<String>,
    after: Option<String>,
}

impl PushHook {
    /// The branch that this push deleted, if it did: then there are only zeros after it.
    pub(super) fn deleted_branch(self) -> Result<Option<(Place, String)>, Unreadable> {
        let after = self.after.unwrap_or_default();
        if after.is_empty() || after.contains(|digit| digit != '0') {
            return Ok(None);
        }
        let reference = text(self.r#ref, "ref")?;
        let branch = reference.strip_prefix("refs/heads/").unwrap_or(&reference);
        Ok(Some((place(self.project, self.project_id)?, text(Some(branch.to_owned()), "ref")?)))
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct NoteHook {
    project: Option<Project>,
    project_id: Option<ProjectId>,
    object_attributes: Option<NoteAttributes>,
    merge_request: Option<NoteMergeRequest>,
}

#[derive(Debug, Deserialize)]
pub(super) struct NoteAttributes {
    pub(super) note: Option<String>,
    pub(super) noteable_type: Option<String>,
    pub(super) system: Option<bool>,
}

#[derive(Debug, Deserialize)]
struct NoteMergeRequest {
    iid: Option<u64>,
}

impl NoteHook {
    /// The note itself.
    pub(super) fn note(&mut self) -> Result<NoteAttributes, Unreadable> {
        need(self.object_attributes.take(), "object_attributes")
    }

    /// The merge request it stands on.
    pub(super) fn read(self) -> Result<(Place, u64), Unreadable> {
        let it = need(self.merge_request, "merge_request")?;
        Ok((place(self.project, self.project_id)?, id(it.iid, "merge_request.iid")?))
    }
}

#[derive(Debug, Deserialize)]
pub(super) struct DeploymentHook {
    project: Option<Project>,
    pub(super) environment: Option<String>,
    pub(super) deployable_url: Option<String>,
}

impl DeploymentHook {
    /// Where it was deployed from.
    pub(super) fn place(self) -> Result<Place, Unreadable> {
        place(self.project, None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_read_is_named_but_not_shown() {
        for (body, why) in [
            ("", "the body is not JSON from line 1, column 0 on"),
            ("secret", "the body is not JSON from line 1, column 1 on"),
            ("{} {}", "the body is not JSON from line 1, column 4 on"),
            ("\"secret\"", "the body is no JSON object"),
            (r#"{"object_attributes":{"iid":"secret"}}"#, "`object_attributes.iid` is of an unexpected type"),
        ] {
            assert_eq!(
                parse::<MergeRequestHook>(body.as_bytes()).unwrap_err(),
                Unreadable(why.into()),
                "{body}"
            );
        }
    }

    #[test]
    fn only_what_can_be_stored_is_taken() {
        assert_eq!(text(Some("grüße/ü".into()), "ref"), Ok("grüße/ü".into()));
        for bad in [Some(String::new()), Some("a\0b".into()), Some("x".repeat(LONGEST + 1)), None] {
            text(bad, "ref").unwrap_err();
        }
        assert_eq!(id(Some(u64::MAX >> 1), "iid"), Ok(u64::MAX >> 1));
        id(Some((u64::MAX >> 1) + 1), "iid").unwrap_err();
    }

    #[test]
    fn a_projects_path_is_found_in_addresses() {
        for (address, path) in [
            ("git@gitlab.com:acme/sub/web.git", Some("acme/sub/web")),
            ("ssh://git@gitlab.acme.com:2222/acme/web.git", Some("acme/web")),
            ("acme/web", None),
        ] {
            assert_eq!(project_of_address(address).as_deref(), path, "{address}");
        }
        let fork = Project {
            id: None,
            path_with_namespace: Some("jane/web".into()),
            web_url: Some("https://acme.com/git/jane/web".into()),
        };
        for (url, path) in [
            ("https://acme.com/git/acme/web/-/merge_requests/7", Some("acme/web")),
            ("https://acme.com/git/acme/web/merge_requests/7", Some("acme/web")),
            ("https://acme.com/elsewhere", None),
        ] {
            assert_eq!(project_of_url(Some(url), &fork).as_deref(), path, "{url}");
        }
    }
}
