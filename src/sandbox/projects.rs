//! Projects and forks. A project is addressed by number or by URL-encoded path; one that the caller
//! may not see is 404, not 403.

use super::{
    deployments::Deployment,
    environments::Environment,
    hooks::Hook,
    jobs::{Job, JobSpec},
    json::with,
    merge_requests::MergeRequest,
    pagination::paginate,
    params::Params,
    pipelines::Pipeline,
    refusal::{Answer, Refusal},
    repository::Change,
    state::{Gitlab, Noun, State},
    statuses::CommitStatus,
    time,
    users::{Caller, GUEST, MAINTAINER},
};
use actix_web::{HttpRequest, HttpResponse, web};
use jiff::Timestamp;
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashSet};

/// One project and all it owns.
#[derive(Debug)]
pub(super) struct Project {
    pub(super) id: u64,
    /// With namespace: `acme/web`.
    pub(super) path: String,
    pub(super) visibility: String,
    pub(super) default_branch: String,
    pub(super) forked_from: Option<u64>,
    pub(super) created_at: Timestamp,
    /// User → access level.
    pub(super) members: BTreeMap<u64, u8>,
    pub(super) branches: BTreeMap<String, String>,
    pub(super) tags: BTreeMap<String, String>,
    /// SHAs of the commits that this repository has.
    pub(super) objects: HashSet<String>,
    pub(super) labels: BTreeMap<String, Label>,
    pub(super) merge_requests: BTreeMap<u64, MergeRequest>,
    pub(super) pipelines: BTreeMap<u64, Pipeline>,
    pub(super) jobs: BTreeMap<u64, Job>,
    pub(super) statuses: BTreeMap<u64, CommitStatus>,
    pub(super) environments: BTreeMap<u64, Environment>,
    pub(super) deployments: BTreeMap<u64, Deployment>,
    pub(super) hooks: BTreeMap<u64, Hook>,
    /// What `.gitlab-ci.yml` would say: the jobs of the latest pipeline made by hand, for those the
    /// API starts.
    pub(super) ci_jobs: Vec<JobSpec>,
}

/// A label; it comes into being when it is first used.
#[derive(Debug, Clone)]
pub(super) struct Label {
    pub(super) id: u64,
    pub(super) created_at: Timestamp,
}

impl Project {
    pub(super) fn role_of(&self, user: u64) -> u8 {
        self.members.get(&user).copied().unwrap_or(0)
    }

    /// `web` of `acme/web`.
    pub(super) fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or(&self.path)
    }

    /// `acme` of `acme/web`.
    pub(super) fn namespace(&self) -> &str {
        self.path.rsplit_once('/').map_or("", |(namespace, _)| namespace)
    }
}

impl State {
    /// Creates a project with one commit on `main`.
    pub(super) fn create_project(
        &mut self,
        path: &str,
        owner: u64,
        visibility: &str,
    ) -> Result<u64, Refusal> {
        let id = self.register_project(path, owner, visibility, None)?;
        let readme = Change::write("README.md", format!("# {path}\n"));
        let sha = self.add_commit(&[], &[readme], "Initial commit", owner)?;
        let project = self.project_mut(id)?;
        project.objects.insert(sha.clone());
        project.branches.insert("main".to_owned(), sha);
        Ok(id)
    }

    /// Copies a project's branches and commits into another namespace.
    pub(super) fn fork_project(&mut self, parent: u64, namespace: &str, owner: u64) -> Result<u64, Refusal> {
        let source = self.project(parent)?;
        let (path, visibility) = (format!("{namespace}/{}", source.name()), source.visibility.clone());
        let (branches, objects) = (source.branches.clone(), source.objects.clone());
        let id = self.register_project(&path, owner, &visibility, Some(parent))?;
        let fork = self.project_mut(id)?;
        fork.branches = branches;
        fork.objects = objects;
        Ok(id)
    }

    fn register_project(
        &mut self,
        path: &str,
        owner: u64,
        visibility: &str,
        parent: Option<u64>,
    ) -> Result<u64, Refusal> {
        if path.split('/').any(str::is_empty) || !path.contains('/') {
            return Err(Refusal::bad_request(json!({ "path": ["must be namespace/name"] })));
        }
        if self.find_project(path).is_ok() {
            return Err(Refusal::bad_request(json!({ "path": ["has already been taken"] })));
        }
        let id = self.next_id(Noun::Project);
        let project = Project {
            id,
            path: path.to_owned(),
            visibility: visibility.to_owned(),
            default_branch: "main".to_owned(),
            forked_from: parent,
            created_at: self.now(),
            members: BTreeMap::from([(owner, MAINTAINER)]),
            branches: BTreeMap::new(),
            tags: BTreeMap::new(),
            objects: HashSet::new(),
            labels: BTreeMap::new(),
            merge_requests: BTreeMap::new(),
            pipelines: BTreeMap::new(),
            jobs: BTreeMap::new(),
            statuses: BTreeMap::new(),
            environments: BTreeMap::new(),
            deployments: BTreeMap::new(),
            hooks: BTreeMap::new(),
            ci_jobs: Vec::new(),
        };
        self.projects.insert(id, project);
        Ok(id)
    }

    /// The project's page.
    pub(super) fn project_url(&self, project: &Project) -> String {
        format!("{}/{}", self.url, project.path)
    }

    /// `BasicProjectDetails`.
    pub(super) fn project_basic(&self, project: &Project) -> Value {
        let url = self.project_url(project);
        let ssh = self.url.replacen("http://", "ssh://git@", 1);
        json!({
            "id": project.id,
            "description": null,
            "name": project.name(),
            "name_with_namespace": project.path.replace('/', " / "),
            "path": project.name(),
            "path_with_namespace": project.path,
            "created_at": time::iso(project.created_at),
            "default_branch": project.default_branch,
            "tag_list": [],
            "topics": [],
            "ssh_url_to_repo": format!("{ssh}/{}.git", project.path),
            "http_url_to_repo": format!("{url}.git"),
            "web_url": url,
            "readme_url": format!("{url}/-/blob/{}/README.md", project.default_branch),
            "forks_count": self.projects.values().filter(|other| other.forked_from == Some(project.id)).count(),
            "avatar_url": null,
            "star_count": 0,
            "last_activity_at": time::iso(project.created_at),
            "visibility": project.visibility,
            "namespace": {
                "id": 7,
                "name": project.namespace(),
                "path": project.namespace(),
                "kind": "group",
                "full_path": project.namespace(),
                "parent_id": null,
                "avatar_url": null,
                "web_url": format!("{}/groups/{}", self.url, project.namespace()),
            },
        })
    }

    fn project_full(&self, project: &Project, caller: &Caller) -> Value {
        let parent = project.forked_from.and_then(|parent| self.projects.get(&parent));
        let role = project.role_of(caller.user);
        let access = (role > 0).then(|| json!({ "access_level": role, "notification_level": 3 }));
        let host = self.url.split_once("://").map_or("", |(_, host)| host).trim_end_matches('/');
        let more = json!({
            "permissions": { "project_access": access, "group_access": null },
            "archived": false,
            "empty_repo": project.branches.is_empty(),
            "merge_requests_enabled": true,
            "jobs_enabled": true,
            "builds_access_level": "enabled",
            "environments_access_level": "enabled",
            "container_registry_image_prefix": format!("registry.{host}/{}", project.path),
            "merge_method": "merge",
            "only_allow_merge_if_pipeline_succeeds": false,
            "ci_config_path": null,
            "ci_default_git_depth": 20,
            "creator_id": project.members.keys().next(),
            "import_status": "none",
            "marked_for_deletion_on": null,
        });
        let full = with(self.project_basic(project), more);
        match parent {
            Some(parent) => with(full, json!({ "forked_from_project": self.project_basic(parent) })),
            None => full,
        }
    }
}

pub(super) fn routes(api: &mut web::ServiceConfig) {
    api.service(web::resource("/projects").get(list).post(create))
        .route("/projects/{id}", web::get().to(get));
}

async fn list(gitlab: Gitlab, caller: Caller, request: HttpRequest, params: Params) -> Answer {
    let state = gitlab.lock();
    let member_only = params.flag("membership").unwrap_or(false);
    let search = params.text("search").unwrap_or_default();
    let shown = |project: &&Project| {
        let member = project.role_of(caller.user) > 0;
        (member || (!member_only && project.visibility != "private")) && project.path.contains(&search)
    };
    let projects = state.projects.values().rev().filter(shown);
    let projects: Vec<_> = projects.map(|project| state.project_basic(project)).collect();
    Ok(paginate(&request, &params, &projects))
}

async fn get(gitlab: Gitlab, caller: Caller, path: web::Path<String>) -> Answer {
    let state = gitlab.lock();
    let project = state.project(state.enter(&caller, &path, GUEST)?)?;
    Ok(HttpResponse::Ok().json(state.project_full(project, &caller)))
}

async fn create(gitlab: Gitlab, caller: Caller, params: Params) -> Answer {
    let mut state = gitlab.lock();
    let name = params.text("path").or_else(|| params.text("name")).ok_or_else(|| Refusal::missing("name"))?;
    let namespace = match params.text("namespace_path") {
        Some(namespace) => namespace,
        None => state.users.get(&caller.user).map(|user| user.username.clone()).unwrap_or_default(),
    };
    let visibility = params.text("visibility").unwrap_or_else(|| "private".to_owned());
    let id = state.create_project(&format!("{namespace}/{name}"), caller.user, &visibility)?;
    Ok(HttpResponse::Created().json(state.project_full(state.project(id)?, &caller)))
}
