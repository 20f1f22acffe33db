//! The stand-in GitLab as the harness uses it: each verb has the effect its name says, within GitLab's OpenAPI document.

use serde_json::Value;
use url::form_urlencoded;

use crate::support::{
    gitlab::{BOT, Gitlab, JOB},
    wire::Wire,
};

#[tokio::test]
async fn a_merge_request_lives_its_life() {
    let gitlab = Gitlab::start(None).await;
    let mr = gitlab.open_mr("feature/x", "Add x").await;
    let head = gitlab.push("feature/x", &[("x.txt", "1")]).await;
    assert_eq!(gitlab.mr(mr).await["sha"], head.as_str());

    let first = gitlab.start_pipeline(mr).await;
    gitlab.fail_job(first.job).await;
    let second = gitlab.start_pipeline(mr).await;
    gitlab.succeed_job(second.job, &[("dist/index.html", "<h1>x</h1>")]).await;
    assert!(second.id > first.id);

    gitlab.say(mr, "Looks good").await;
    assert_eq!(gitlab.notes(mr).await.iter().filter(|note| note["body"] == "Looks good").count(), 1);
    assert_eq!(gitlab.comment(mr).await, None);

    let mut states = Vec::new();
    let mut look = async || states.push(gitlab.mr(mr).await["state"].as_str().unwrap().to_owned());
    look().await;
    gitlab.close(mr).await;
    look().await;
    gitlab.reopen(mr).await;
    look().await;
    gitlab.merge(mr).await;
    look().await;
    assert_eq!(states, ["opened", "closed", "opened", "merged"]);
    assert!(gitlab.calls().await.is_empty(), "only the bot's calls count");
}

/// What greenroom asks of GitLab, asked once over the wire; Prism judges when the wire drops.
#[tokio::test]
async fn what_the_stand_in_answers_is_what_gitlab_documents() {
    let gitlab = Gitlab::start(None).await;
    let mr = gitlab.open_mr("feature/x", "Add x").await;
    let head = gitlab.push("feature/x", &[("x.txt", "1")]).await;
    let pipeline = gitlab.start_pipeline(mr).await;
    gitlab.succeed_job(pipeline.job, &[("dist/index.html", "<h1>x</h1>")]).await;

    let wire = Wire::to_gitlab(&gitlab.url()).await;
    let http =
        reqwest::Client::builder().no_proxy().redirect(reqwest::redirect::Policy::none()).build().unwrap();
    let ask = async |method: &str, path: &str, form: &[(&str, &str)]| {
        let request = http.request(method.parse().unwrap(), format!("{}api/v4/{path}", wire.url()));
        let mut request = request.header("private-token", BOT);
        if !form.is_empty() {
            let body = form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish();
            request = request.header("content-type", "application/x-www-form-urlencoded").body(body);
        }
        let answer = request.send().await.unwrap();
        let status = answer.status().as_u16();
        (status, answer.json::<Value>().await.unwrap_or_default())
    };
    let project = format!("projects/{}", Gitlab::PROJECT);
    let reads = [
        "metadata".to_owned(),
        "user".to_owned(),
        "personal_access_tokens/self".to_owned(),
        project.clone(),
        "projects/acme%2Fweb".to_owned(),
        format!("{project}/merge_requests?state=opened&per_page=100"),
        format!("{project}/merge_requests/{mr}"),
        format!("{project}/merge_requests/{mr}/notes?sort=asc&order_by=created_at"),
        format!("{project}/merge_requests/{mr}/pipelines"),
        format!("{project}/pipelines/{}", pipeline.id),
        format!("{project}/pipelines/{}/jobs?include_retried=false", pipeline.id),
        format!("{project}/jobs/{}", pipeline.job),
        format!("{project}/repository/files/.greenroom.yml/raw?ref=main"),
        format!("{project}/repository/commits/{head}"),
        format!("{project}/environments?search=review"),
        format!("{project}/deployments?environment=review%2Fmr-{mr}"),
        format!("{project}/members/all"),
    ];
    for path in reads {
        let (status, answer) = ask("GET", &path, &[]).await;
        assert_eq!(status, 200, "{path}: {answer}");
    }
    let artifact = format!("{project}/jobs/{}/artifacts", pipeline.job);
    assert_eq!(ask("GET", &artifact, &[]).await.0, 302);
    let by_ref = format!("{project}/jobs/artifacts/refs%2Fmerge-requests%2F{mr}%2Fhead/download?job={JOB}");
    assert!([200, 302].contains(&ask("GET", &by_ref, &[]).await.0));
    assert_eq!(ask("GET", &format!("{project}/merge_requests/999"), &[]).await.0, 404);

    let notes = format!("{project}/merge_requests/{mr}/notes");
    let (status, note) = ask("POST", &notes, &[("body", "hello")]).await;
    assert_eq!(status, 201);
    assert_eq!(gitlab.comment(mr).await.as_deref(), Some("hello"));
    let note = format!("{notes}/{}", note["id"]);
    assert_eq!(ask("PUT", &note, &[("body", "changed")]).await.0, 200);

    let name = format!("review/mr-{mr}");
    let deployment = [
        ("environment", name.as_str()),
        ("sha", &head),
        ("ref", "feature/x"),
        ("tag", "false"),
        ("status", "running"),
    ];
    let (status, deployment) = ask("POST", &format!("{project}/deployments"), &deployment).await;
    assert_eq!(status, 201, "{deployment}");
    let path = format!("{project}/deployments/{}", deployment["id"]);
    assert_eq!(ask("PUT", &path, &[("status", "success")]).await.0, 200);

    let other =
        [("name", "review/other"), ("external_url", "http://other.example.com"), ("tier", "development")];
    assert_eq!(ask("POST", &format!("{project}/environments"), &other).await.0, 201);
    let environments = gitlab.environments().await;
    let environment =
        environments.iter().find(|environment| environment["name"] == format!("review/mr-{mr}")).unwrap();
    let path = format!("{project}/environments/{}", environment["id"]);
    let preview = [("external_url", "http://web-42-mr-1.preview.localhost")];
    assert_eq!(ask("PUT", &path, &preview).await.0, 200);
    let status_of = [("state", "success"), ("name", "greenroom"), ("target_url", "http://example.com")];
    let (status, _) = ask("POST", &format!("{project}/statuses/{head}"), &status_of).await;
    assert_eq!(status, 201);
    assert_eq!(ask("POST", &format!("{path}/stop"), &[("force", "true")]).await.0, 200);
    assert_eq!(ask("POST", &format!("{path}/stop"), &[]).await.0, 200);
    assert_eq!(ask("DELETE", &path, &[]).await.0, 204);
    assert_eq!(ask("DELETE", &note, &[]).await.0, 204);
}
