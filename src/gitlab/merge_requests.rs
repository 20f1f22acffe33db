//! Merge requests, and the files and commits they point at.

use std::collections::BTreeMap;
use std::sync::Arc;

use gitlab::api;
use gitlab::api::projects::merge_requests as endpoints;
use gitlab::api::projects::repository;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use url::Url;

use super::{Error, Forge, built};
use crate::preview::{ChangedFile, Diff, MergeRequest, MergeRequestState, MrKey, ProjectId, Sha};

#[derive(Deserialize)]
struct Shape {
    iid: u64,
    state: MergeRequestState,
    sha: Option<Sha>,
    source_branch: String,
    target_branch: String,
    source_project_id: Option<ProjectId>,
    created_at: Option<jiff::Timestamp>,
    references: Option<References>,
    web_url: Option<String>,
    draft: Option<bool>,
    /// What servers before 13.2 call `draft`.
    work_in_progress: Option<bool>,
    labels: Vec<String>,
    title: Option<String>,
    author: Option<Author>,
    /// Not in lists, and null until GitLab has compared the branches.
    diff_refs: Option<DiffRefs>,
    /// A number as text, with a `+` when there is more than GitLab shows.
    changes_count: Option<String>,
}

#[derive(Deserialize)]
struct Author {
    username: String,
}

#[derive(Deserialize)]
struct References {
    full: String,
}

#[derive(Deserialize)]
struct DiffRefs {
    base_sha: Option<Sha>,
    head_sha: Option<Sha>,
}

impl Shape {
    fn project_path(&self) -> Option<String> {
        project_path(self.references.as_ref(), self.web_url.as_deref())
    }

    fn draft(&self) -> bool {
        self.draft.or(self.work_in_progress).unwrap_or(false)
    }

    fn diff(&self) -> Option<Diff> {
        let refs = self.diff_refs.as_ref()?;
        let count = self.changes_count.as_deref().unwrap_or_default();
        let number = count.strip_suffix('+');
        Some(Diff {
            base: refs.base_sha.clone()?,
            head: refs.head_sha.clone()?,
            count: number.unwrap_or(count).parse().ok(),
            cut: number.is_some(),
        })
    }
}

/// The project's path: from the full reference (`acme/web!7`), which servers before 12.7 do not send, else from the link.
fn project_path(references: Option<&References>, web_url: Option<&str>) -> Option<String> {
    let reference = references.and_then(|references| references.full.rsplit_once('!'));
    let link = || {
        let url: Url = web_url?.parse().ok()?;
        let (path, _) = url.path().split_once("/-/").or_else(|| url.path().split_once("/merge_requests/"))?;
        Some(path.trim_matches('/').to_owned())
    };
    reference.map(|(path, _)| path.to_owned()).or_else(link).filter(|path| !path.is_empty())
}

/// A line of the list, and all that may change a decision without any other event.
#[derive(Deserialize)]
struct Line {
    iid: u64,
    state: MergeRequestState,
    sha: Option<Sha>,
    draft: Option<bool>,
    labels: Option<Vec<String>>,
    target_branch: String,
    updated_at: Option<String>,
    references: Option<References>,
    web_url: Option<String>,
}

impl Line {
    fn project_path(&self) -> Option<String> {
        project_path(self.references.as_ref(), self.web_url.as_deref())
    }

    fn into_open(mut self) -> OpenMergeRequest {
        self.labels.iter_mut().for_each(|labels| labels.sort());
        let Self { iid, state, sha, draft, labels, target_branch, updated_at, .. } = self;
        let said = format!("{state:?} {sha:?} {draft:?} {labels:?} {target_branch:?} {updated_at:?}");
        OpenMergeRequest { iid, fingerprint: hex::encode(&Sha256::digest(said)[..16]) }
    }
}

/// A line of the list of open merge requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenMergeRequest {
    /// Its number.
    pub iid: u64,
    /// What the list says of it, as far as a preview depends on it: equal texts, nothing new.
    pub fingerprint: String,
}

impl Forge {
    /// The merge request as it is now.
    pub async fn merge_request(&self, key: MrKey) -> Result<MergeRequest, Error> {
        let endpoint =
            endpoints::MergeRequest::builder().project(key.project_id).merge_request(key.iid).build();
        let client = self.of(key.project_id).await?;
        let shape: Shape = client.get(built(endpoint)?).await?;
        if shape.iid != key.iid {
            let why = format!("it speaks of !{}", shape.iid);
            return Err(Error::Unreadable { what: format!("GET merge request {key}"), why });
        }
        let Some(project_path) = shape.project_path() else {
            let why = String::from("it does not name its project");
            return Err(Error::Unreadable { what: format!("GET merge request {key}"), why });
        };
        self.check_path(&client, key.project_id, &project_path)?;
        Ok(MergeRequest {
            key: key.into(),
            project_path,
            state: shape.state,
            draft: shape.draft(),
            diff: shape.diff(),
            branch_deleted: false,
            sha: shape.sha,
            source_branch: shape.source_branch,
            target_branch: shape.target_branch,
            created_at: shape.created_at.map(jiff::Timestamp::as_millisecond),
            source_project_id: shape.source_project_id,
            labels: shape.labels,
            title: shape.title.unwrap_or_default(),
            author: shape.author.map(|author| author.username).unwrap_or_default(),
        })
    }

    /// The files that a merge request changes, as far as GitLab lists them.
    pub async fn changed_files(&self, key: MrKey) -> Result<Vec<ChangedFile>, Error> {
        #[derive(Deserialize)]
        struct File {
            old_path: String,
            new_path: String,
        }
        let endpoint =
            endpoints::MergeRequestDiffs::builder().project(key.project_id).merge_request(key.iid).build();
        let files: Vec<File> = self.of(key.project_id).await?.all(built(endpoint)?).await?;
        let changed = |file: File| ChangedFile { old_path: file.old_path, new_path: file.new_path };
        Ok(files.into_iter().map(changed).collect())
    }

    /// All open merge requests of a project, through all pages.
    pub async fn open_merge_requests(&self, project: ProjectId) -> Result<Vec<OpenMergeRequest>, Error> {
        let endpoint = endpoints::MergeRequests::builder()
            .project(project)
            .state(endpoints::MergeRequestState::Opened)
            .build();
        let client = self.of(project).await?;
        let lines: Vec<Line> = client.all(built(endpoint)?).await?;
        if let Some(path) = lines.first().and_then(Line::project_path) {
            self.check_path(&client, project, &path)?;
        }
        Ok(lines.into_iter().map(Line::into_open).collect())
    }

    /// The open merge requests of a project whose source branch has this name. Forks may have equal names: each is
    /// looked at for itself.
    pub async fn merge_requests_of_branch(
        &self,
        project: ProjectId,
        branch: &str,
    ) -> Result<Vec<MrKey>, Error> {
        let endpoint = endpoints::MergeRequests::builder()
            .project(project)
            .state(endpoints::MergeRequestState::Opened)
            .source_branch(branch)
            .build();
        let shapes = self.listed(project, built(endpoint)?).await?;
        Ok(shapes.into_iter().map(|shape| MrKey::new(project, shape.iid)).collect())
    }

    async fn listed(
        &self,
        project: ProjectId,
        endpoint: endpoints::MergeRequests<'_>,
    ) -> Result<Vec<Shape>, Error> {
        let client = self.of(project).await?;
        let shapes: Vec<Shape> = client.all(endpoint).await?;
        if let Some(path) = shapes.first().and_then(Shape::project_path) {
            self.check_path(&client, project, &path)?;
        }
        Ok(shapes)
    }

    /// The text of a file at a ref; `None` only when GitLab says that the *file* is not there.
    ///
    /// A missing ref or an invisible project is an error, for "no file" ends a preview.
    pub async fn file(
        &self,
        project: ProjectId,
        path: &str,
        reference: &str,
    ) -> Result<Option<String>, Error> {
        let endpoint =
            repository::files::FileRaw::builder().project(project).file_path(path).ref_(reference).build();
        match self.of(project).await?.raw(built(endpoint)?).await {
            Ok(bytes) => match String::from_utf8(bytes) {
                Ok(text) => Ok(Some(text)),
                // Our file's reader says in words what is wrong with it.
                Err(error) => Ok(Some(String::from_utf8_lossy(error.as_bytes()).into_owned())),
            },
            Err(error) if error.is_not_found() && error.message().contains("File Not Found") => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The projects that the tokens' users are members of, each shown to the token that is for it: ids and paths.
    pub async fn own_projects(&self) -> Result<BTreeMap<ProjectId, String>, Error> {
        #[derive(Deserialize)]
        struct Project {
            id: ProjectId,
            path_with_namespace: String,
        }
        let endpoint =
            api::projects::Projects::builder().membership(true).archived(false).simple(true).build();
        let endpoint = built(endpoint)?;
        let table = self.shared.keyring.table();
        let mut own = BTreeMap::new();
        for credential in table.all() {
            let client = self.through(Arc::clone(&table), Arc::clone(credential));
            for project in client.all::<Project>(&endpoint).await? {
                if client.is_for(&project.path_with_namespace) {
                    own.insert(project.id, project.path_with_namespace);
                }
            }
        }
        Ok(own)
    }

    /// The id of the project with this path.
    pub async fn project_id(&self, path: &str) -> Result<ProjectId, Error> {
        #[derive(Deserialize)]
        struct Project {
            id: ProjectId,
            path_with_namespace: String,
        }
        let client = self.at(path);
        let project: Project =
            client.get(built(api::projects::Project::builder().project(path).build())?).await?;
        self.check_path(&client, project.id, &project.path_with_namespace)?;
        Ok(project.id)
    }

    /// The path of the project with this id.
    pub async fn project_path(&self, id: ProjectId) -> Result<String, Error> {
        #[derive(Deserialize)]
        struct Project {
            path_with_namespace: String,
        }
        let client = self.of(id).await?;
        let project: Project =
            client.get(built(api::projects::Project::builder().project(id).build())?).await?;
        self.check_path(&client, id, &project.path_with_namespace)?;
        Ok(project.path_with_namespace)
    }

    /// The parents of a commit.
    pub async fn commit_parents(&self, project: ProjectId, sha: &Sha) -> Result<Vec<Sha>, Error> {
        #[derive(Deserialize)]
        struct Commit {
            parent_ids: Vec<Sha>,
        }
        let endpoint = repository::commits::Commit::builder().project(project).commit(sha.as_str()).build();
        let commit: Commit = self.of(project).await?.get(built(endpoint)?).await?;
        Ok(commit.parent_ids)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_project_is_named_by_reference_or_link() {
        for (more, path) in [
            (json!({ "references": { "full": "acme/sub/web!7" } }), Some("acme/sub/web")),
            (
                json!({ "web_url": "https://gitlab.example.com/acme/web/-/merge_requests/7" }),
                Some("acme/web"),
            ),
            (json!({ "web_url": "https://gitlab.example.com/acme/web/merge_requests/7" }), Some("acme/web")),
            (json!({ "references": null, "web_url": null }), None),
        ] {
            let mut shape = json!({
                "iid": 7, "state": "opened", "sha": null, "source_branch": "a", "target_branch": "b",
                "source_project_id": null, "labels": [],
            });
            shape.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let shape: Shape = serde_json::from_value(shape).unwrap();
            assert_eq!(shape.project_path().as_deref(), path, "{more}");
        }
    }

    #[test]
    fn draft_and_diff_are_read_as_old_and_new_servers_write_them() {
        let (base, head) = ("a".repeat(40), "b".repeat(40));
        let refs = json!({ "base_sha": base, "head_sha": head, "start_sha": base });
        for (more, draft, diff) in [
            (json!({ "draft": true, "work_in_progress": true, "diff_refs": null }), true, None),
            (json!({ "work_in_progress": true }), true, None),
            (
                json!({ "draft": false, "diff_refs": refs, "changes_count": "12" }),
                false,
                Some((Some(12), false)),
            ),
            (json!({ "diff_refs": refs, "changes_count": "1000+" }), false, Some((Some(1000), true))),
            (json!({ "diff_refs": refs, "changes_count": null }), false, Some((None, false))),
        ] {
            let mut shape = json!({
                "iid": 7, "state": "opened", "sha": head, "source_branch": "a", "target_branch": "b",
                "source_project_id": 1, "labels": ["x"],
            });
            shape.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
            let shape: Shape = serde_json::from_value(shape).unwrap();
            assert_eq!(shape.draft(), draft, "{more}");
            assert_eq!(shape.diff().map(|diff| (diff.count, diff.cut)), diff, "{more}");
        }
    }
}
