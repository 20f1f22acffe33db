//! Everything the sandbox knows, behind one lock. Each noun's own file adds its rules as an
//! `impl State`; this one holds the whole together and hands out ids.

use super::{
    delivery::{Delivery, Outbox},
    faults::Faults,
    hooks::Limited,
    id_tokens::Issuer,
    journal::Call,
    notes::Note,
    projects::Project,
    refusal::Refusal,
    repository::Commit,
    time::Clock,
    users::{Caller, Token, User},
};
use actix_web::web;
use jiff::Timestamp;
use std::{
    collections::{BTreeMap, HashMap},
    sync::{Mutex, MutexGuard, PoisonError},
};
use tokio::sync::Notify;

/// The handle every request handler gets.
pub(super) type Gitlab = web::Data<Shared>;

/// The state and its lock, which no handler holds across an `await`.
#[derive(Debug)]
pub(super) struct Shared {
    state: Mutex<State>,
    /// Woken whenever a delivery is settled.
    pub(super) settled: Notify,
    /// Sends webhooks; follows no redirects, as GitLab does not.
    pub(super) http: reqwest::Client,
}

impl Shared {
    pub(super) fn new(state: State, http: reqwest::Client) -> Self {
        Self { state: Mutex::new(state), settled: Notify::new(), http }
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The whole GitLab.
#[derive(Debug)]
pub(super) struct State {
    /// `http://127.0.0.1:port`, the instance's own address.
    pub(super) url: String,
    /// Where artifacts are downloaded from: another origin, as with object storage.
    pub(super) storage_url: String,
    /// The version it says it is.
    pub(super) version: String,
    /// Whether it has `GET /metadata`, which came with 15.2.
    pub(super) has_metadata: bool,
    pub(super) clock: Clock,
    pub(super) users: BTreeMap<u64, User>,
    pub(super) tokens: HashMap<String, Token>,
    pub(super) projects: BTreeMap<u64, Project>,
    /// Commits of all projects: forks share their objects.
    pub(super) commits: HashMap<String, Commit>,
    pub(super) notes: BTreeMap<u64, Note>,
    /// Download paths handed out so far: secret → project and job.
    pub(super) downloads: HashMap<String, (u64, u64)>,
    pub(super) deliveries: Vec<Delivery>,
    /// How many deliveries there ever were.
    pub(super) delivered: u64,
    pub(super) outbox: Outbox,
    pub(super) faults: Faults,
    pub(super) issuer: Issuer,
    pub(super) calls: Vec<Call>,
    /// What, in which project, by whom → in which minute, how often.
    pub(super) throttled: BTreeMap<(Limited, u64, u64), (i64, usize)>,
    ids: BTreeMap<Noun, u64>,
}

/// What has ids that are unique on the instance. Most start above 2^32 to catch who uses 32 bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Noun {
    Project,
    User,
    Token,
    MergeRequest,
    Note,
    Pipeline,
    Job,
    Environment,
    Deployment,
    Label,
    Hook,
}

impl Noun {
    const fn first_id(self) -> u64 {
        match self {
            Self::Project => 42,
            Self::User => 9_001,
            Self::Token => 17,
            Self::MergeRequest => 5_100_000_001,
            Self::Note => 5_200_000_001,
            Self::Pipeline => 5_300_000_001,
            Self::Job => 5_400_000_001,
            Self::Environment => 5_500_001,
            Self::Deployment => 5_600_000_001,
            Self::Label => 301,
            Self::Hook => 71,
        }
    }
}

impl State {
    pub(super) fn new(url: String, storage_url: String, outbox: Outbox) -> Self {
        Self {
            url,
            storage_url,
            version: super::VERSION.to_owned(),
            has_metadata: true,
            clock: Clock::default(),
            users: BTreeMap::new(),
            tokens: HashMap::new(),
            projects: BTreeMap::new(),
            commits: HashMap::new(),
            notes: BTreeMap::new(),
            downloads: HashMap::new(),
            deliveries: Vec::new(),
            delivered: 0,
            outbox,
            faults: Faults::default(),
            issuer: Issuer::default(),
            calls: Vec::new(),
            throttled: BTreeMap::new(),
            ids: BTreeMap::new(),
        }
    }

    /// Whether the version that it says it is has come to this one.
    pub(super) fn is_at_least(&self, version: (u32, u32)) -> bool {
        let mut parts = self.version.split('.').map(|part| part.parse().unwrap_or(0));
        (parts.next().unwrap_or(0), parts.next().unwrap_or(0)) >= version
    }

    pub(super) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(super) fn next_id(&mut self, noun: Noun) -> u64 {
        let next = self.ids.entry(noun).or_insert_with(|| noun.first_id());
        let id = *next;
        *next += 1;
        id
    }

    pub(super) fn project(&self, id: u64) -> Result<&Project, Refusal> {
        self.projects.get(&id).ok_or_else(|| Refusal::not_found("Project"))
    }

    pub(super) fn project_mut(&mut self, id: u64) -> Result<&mut Project, Refusal> {
        self.projects.get_mut(&id).ok_or_else(|| Refusal::not_found("Project"))
    }

    /// The project behind a numeric id or a path, whoever asks.
    pub(super) fn find_project(&self, id_or_path: &str) -> Result<u64, Refusal> {
        let by_id = id_or_path.parse().ok().filter(|id| self.projects.contains_key(id));
        let by_path =
            || self.projects.values().find(|project| project.path == id_or_path).map(|project| project.id);
        by_id.or_else(by_path).ok_or_else(|| Refusal::not_found("Project"))
    }

    /// The project, if the caller may see it (else 404, not 403) and has at least this role (else 403).
    pub(super) fn enter(&self, caller: &Caller, id_or_path: &str, role: u8) -> Result<u64, Refusal> {
        let id = self.find_project(id_or_path)?;
        let project = self.project(id)?;
        let has = project.role_of(caller.user);
        if has == 0 && project.visibility == "private" {
            return Err(Refusal::not_found("Project"));
        }
        if has < role && role > super::users::GUEST {
            return Err(Refusal::forbidden());
        }
        Ok(id)
    }
}
