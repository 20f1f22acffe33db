//! How often GitLab was called, and for what.

use std::sync::atomic::{AtomicU64, Ordering};

use http::Method;

/// What a call is about; the label set of the metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Endpoint {
    MergeRequest,
    List,
    File,
    Pipelines,
    Jobs,
    Artifact,
    Note,
    Environment,
    Deployment,
    Status,
    Other,
}

impl Endpoint {
    const ALL: [Self; 11] = [
        Self::MergeRequest,
        Self::List,
        Self::File,
        Self::Pipelines,
        Self::Jobs,
        Self::Artifact,
        Self::Note,
        Self::Environment,
        Self::Deployment,
        Self::Status,
        Self::Other,
    ];

    const fn as_str(self) -> &'static str {
        match self {
            Self::MergeRequest => "merge_request",
            Self::List => "list",
            Self::File => "file",
            Self::Pipelines => "pipelines",
            Self::Jobs => "jobs",
            Self::Artifact => "artifact",
            Self::Note => "note",
            Self::Environment => "environment",
            Self::Deployment => "deployment",
            Self::Status => "status",
            Self::Other => "other",
        }
    }

    /// From the path below `/api/v4/`.
    fn of(path: &str) -> Self {
        let mut parts = path.split('/').filter(|part| !part.is_empty());
        if parts.next() != Some("projects") {
            return Self::Other;
        }
        let parts: Vec<_> = parts.skip(1).collect();
        match parts[..] {
            ["merge_requests"] => Self::List,
            ["merge_requests", _] => Self::MergeRequest,
            ["merge_requests", _, "notes", ..] => Self::Note,
            ["merge_requests", _, "pipelines"] | ["pipelines"] => Self::Pipelines,
            ["pipelines", _, "jobs" | "bridges"] => Self::Jobs,
            ["jobs", _, "artifacts", ..] => Self::Artifact,
            ["repository", "files", ..] => Self::File,
            ["environments", ..] => Self::Environment,
            ["deployments", ..] => Self::Deployment,
            ["statuses", ..] | ["repository", "commits", _, "statuses"] => Self::Status,
            _ => Self::Other,
        }
    }
}

/// How often GitLab was called.
#[derive(Debug, Default)]
pub struct CallCount {
    reads: AtomicU64,
    writes: AtomicU64,
    errors: AtomicU64,
    endpoints: [AtomicU64; Endpoint::ALL.len()],
}

impl CallCount {
    /// Reads, writes, and how many of both ended in an error.
    pub fn snapshot(&self) -> [(&'static str, u64); 3] {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        [("read", read(&self.reads)), ("write", read(&self.writes)), ("error", read(&self.errors))]
    }

    /// Calls by what they were about: `merge_request`, `list`, `file`, `pipelines`, `jobs`, `artifact`, `note`,
    /// `environment`, `deployment`, `status`, `other`.
    pub fn by_endpoint(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Endpoint::ALL
            .into_iter()
            .zip(&self.endpoints)
            .map(|(endpoint, count)| (endpoint.as_str(), count.load(Ordering::Relaxed)))
    }

    /// Counts a call that is about to be made; `path` is below `/api/v4/`.
    pub(super) fn call(&self, method: &Method, path: &str) {
        let counter = if method == Method::GET { &self.reads } else { &self.writes };
        counter.fetch_add(1, Ordering::Relaxed);
        self.endpoints[Endpoint::of(path) as usize].fetch_add(1, Ordering::Relaxed);
    }

    /// Counts that a call ended in an error.
    pub(super) fn error(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_call_has_its_kind() {
        for (path, kind) in [
            ("projects/42/merge_requests", "list"),
            ("projects/42/merge_requests/7", "merge_request"),
            ("projects/42/merge_requests/7/notes", "note"),
            ("projects/42/merge_requests/7/notes/1", "note"),
            ("projects/42/merge_requests/7/pipelines", "pipelines"),
            ("projects/42/pipelines/1/bridges", "jobs"),
            ("projects/42/jobs/1/artifacts", "artifact"),
            ("projects/42/repository/files/.greenroom.yml/raw", "file"),
            ("projects/42/repository/commits/abc", "other"),
            ("projects/42/environments/1/stop", "environment"),
            ("projects/42/deployments", "deployment"),
            ("projects/42/statuses/abc", "status"),
            ("projects/acme%2Fmerge_requests", "other"),
            ("user", "other"),
        ] {
            let calls = CallCount::default();
            calls.call(&Method::GET, path);
            let counted: Vec<_> = calls.by_endpoint().filter(|(_, count)| *count > 0).collect();
            assert_eq!(counted, [(kind, 1)], "{path}");
        }
    }
}
