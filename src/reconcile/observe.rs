//! Reading the truth from GitLab: the file and the pipeline that counts.

use super::desired::{FileFact, HeadFact};
use crate::gitlab::{Error, Forge};
use crate::preview::{Bridge, Changes, Compared, Diff, FileAt, Head, Job, MergeRequest, Pipeline, Sha, When};
use crate::render::{PROJECT_FILE, ProjectFile, WaitFor, Workload};

/// The largest project file that is kept with the preview, in bytes.
const LARGEST_KEPT: usize = 16 << 10;

/// How deep child pipelines are followed.
const DEPTH: usize = 2;

/// How many merge commits are asked for their parents. The newest count, so a head's own is among the first.
const MERGE_COMMITS: usize = 10;

/// Reads `.greenroom.yml`: at the head, or for a fork from the target branch, which the fork's author cannot write.
///
/// What a commit has is read once: `known` is what was returned with the fact the last time.
pub(super) async fn file(
    forge: &Forge,
    merge_request: &MergeRequest,
    known: Option<&FileAt>,
) -> Result<(FileFact, Option<FileAt>), Error> {
    let project = merge_request.key.project_id;
    let head = merge_request.sha.as_ref().filter(|_| !merge_request.from_fork());
    let text = match (head, known) {
        (Some(sha), Some(known)) if known.sha == *sha => Some(known.text.clone()),
        (Some(sha), _) => forge.file(project, PROJECT_FILE, sha.as_str()).await?,
        (None, _) => forge.file(project, PROJECT_FILE, &merge_request.target_branch).await?,
    };
    let Some(text) = text else { return Ok((FileFact::Absent, None)) };
    let fact = ProjectFile::parse(&text).map_or_else(FileFact::Broken, FileFact::Present);
    // What cannot be used may be somebody else's page in GitLab's place: it is asked for again.
    let kept = head.filter(|_| matches!(fact, FileFact::Present(_)) && text.len() <= LARGEST_KEPT);
    Ok((fact, kept.map(|sha| FileAt { sha: sha.clone(), text })))
}

/// Compares the files that the merge request changes with the globs of `when`. `known` is what the last look found: as
/// long as diff and globs are the same, GitLab is not asked.
pub(super) async fn changes(
    forge: &Forge,
    merge_request: &MergeRequest,
    when: &When,
    known: Option<&Compared>,
) -> Result<Changes, Error> {
    // After a push GitLab shows the new head before it has compared it.
    let of_head = |diff: &&Diff| merge_request.sha.as_ref() == Some(&diff.head);
    let Some(diff) = merge_request.diff.as_ref().filter(of_head) else { return Ok(Changes::Unknown) };
    if diff.cut {
        return Ok(Changes::Cut);
    }
    if let Some(known) = known.filter(|known| known.is_of(diff, when)) {
        return Ok(Changes::Compared(known.clone()));
    }
    let Some(key) = merge_request.key.merge_request() else { return Ok(Changes::Unknown) };
    Ok(when.compare(diff, &forge.changed_files(key).await?))
}

/// Finds the pipeline that counts for the head, with the jobs that matter to `file`: trigger jobs and the jobs of child
/// pipelines are read only when the job is not in the pipeline itself, or when all of it is waited for.
pub(super) async fn head(
    forge: &Forge,
    merge_request: &MergeRequest,
    file: &ProjectFile,
) -> Result<HeadFact, Error> {
    let Some(sha) = &merge_request.sha else { return Ok(HeadFact::NoPipeline) };
    let Some(pipeline) = counting(forge, merge_request, sha).await? else { return Ok(HeadFact::NoPipeline) };
    of_pipeline(forge, pipeline, file).await.map(HeadFact::Pipeline)
}

/// What matters to `file` of this pipeline.
pub(super) async fn of_pipeline(
    forge: &Forge,
    pipeline: Pipeline,
    file: &ProjectFile,
) -> Result<Head, Error> {
    let project = pipeline.project_id;
    let jobs = forge.jobs(project, pipeline.id).await?;
    let own = match &file.workload {
        Workload::Static(site) => Some(&site.job),
        Workload::Kubernetes(_) => None,
    };
    let awaited = if let WaitFor::Job(name) = &file.wait_for { Some(name) } else { None };
    let here = |name: &&String| jobs.iter().any(|job| job.name == **name);
    // An image may be of any job that the pipeline has, in its children too.
    let any = own.is_none() && file.wait_for == WaitFor::Pipeline;
    let found = !any && own.iter().chain(&awaited).all(here);
    let bridges = if found && file.wait_for != WaitFor::Pipeline {
        Vec::new()
    } else {
        forge.bridges(project, pipeline.id).await?
    };
    let mut child_jobs = Vec::new();
    if !found {
        let mut level = bridges.clone();
        for depth in 1..=DEPTH {
            let (found, next) = children(forge, project, &level, depth < DEPTH).await?;
            child_jobs.extend(found);
            level = next;
        }
    }
    Ok(Head { pipeline, jobs, bridges, child_jobs })
}

/// The jobs of the pipelines that `bridges` started in this project, and their own bridges.
async fn children(
    forge: &Forge,
    project: u64,
    bridges: &[Bridge],
    deeper: bool,
) -> Result<(Vec<Job>, Vec<Bridge>), Error> {
    let (mut jobs, mut next) = (Vec::new(), Vec::new());
    for (_, id) in bridges.iter().filter_map(|bridge| bridge.downstream).filter(|(at, _)| *at == project) {
        jobs.extend(forge.jobs(project, id).await?);
        if deeper {
            next.extend(forge.bridges(project, id).await?);
        }
    }
    Ok((jobs, next))
}

/// The newest pipeline of the merge request's own list whose commit is the head or, with merged results, has it as a
/// parent. `head_pipeline` of the merge request is never used: after a push it is the old head's.
async fn counting(forge: &Forge, merge_request: &MergeRequest, sha: &Sha) -> Result<Option<Pipeline>, Error> {
    let Some(key) = merge_request.key.merge_request() else { return Ok(None) };
    let mut pipelines = forge.pipelines(key).await?;
    pipelines.retain(Pipeline::may_count);
    pipelines.sort_by_key(|pipeline| std::cmp::Reverse(pipeline.id));
    let mut asked = 0;
    for pipeline in pipelines {
        let of_merge_commit = pipeline.sha != *sha && pipeline.is_merged_result();
        if of_merge_commit && asked >= MERGE_COMMITS {
            continue;
        }
        asked += usize::from(of_merge_commit);
        if is_for(forge, &pipeline, sha).await? {
            return Ok(Some(pipeline));
        }
    }
    Ok(None)
}

/// Whether a pipeline is for the head `sha`: it runs on that commit or, with merged results, on a merge commit of it.
pub(super) async fn is_for(forge: &Forge, pipeline: &Pipeline, sha: &Sha) -> Result<bool, Error> {
    if pipeline.sha == *sha || !pipeline.is_merged_result() {
        return Ok(pipeline.sha == *sha);
    }
    match forge.commit_parents(pipeline.project_id, &pipeline.sha).await {
        Ok(parents) => Ok(parents.contains(sha)),
        // A temporary merge commit that GitLab has dropped is nobody's head.
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(error),
    }
}
