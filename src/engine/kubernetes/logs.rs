//! What the programs of a preview wrote, without the secrets they were given.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures::future::join_all;
use serde_json::Value;

use super::super::Error;
use super::Inner;
use super::refusal::Refusal;
use crate::preview::Redaction;

/// How many pods are listened to.
const PODS: usize = 5;

impl Inner {
    /// The last lines of a preview's pods, those with a problem first; at most `most` in all.
    pub(super) async fn logs(&self, name: &str, most: usize) -> Result<Vec<String>, Error> {
        let mut spoken: Vec<(bool, String, Vec<String>)> = self
            .cache()
            .all(name, "Pod")
            .filter(|(_, seen)| seen.errand.is_none())
            .map(|(pod, seen)| {
                let spoke = seen.finding.as_ref().and_then(|finding| finding.spoke.clone());
                let containers = spoke.map_or_else(|| seen.containers.clone(), |container| vec![container]);
                (seen.finding.is_none(), pod.clone(), containers)
            })
            .collect();
        spoken.sort();
        let sources: Vec<(bool, String, String)> = spoken
            .into_iter()
            .take(PODS)
            .flat_map(|(well, pod, containers)| containers.into_iter().map(move |it| (well, pod.clone(), it)))
            .collect();
        let several = sources.len() > 1;
        let each = most / sources.len().max(1);
        let texts = join_all(sources.iter().map(async |(well, pod, container)| {
            if *well {
                // It may have been started again long ago: what it wrote before that is history.
                self.lines_of_run(name, pod, container, false, each.max(1)).await
            } else {
                self.last_lines(name, pod, container, each.max(1)).await
            }
        }))
        .await;
        let mut lines = Vec::new();
        for ((_, pod, container), text) in sources.iter().zip(texts) {
            let text = match text {
                // A container that has not begun has said nothing.
                Err(Refusal::Object(_) | Refusal::NotFound | Refusal::UnknownKind) => continue,
                text => text.map_err(|refusal| self.refused("show the log of a pod", &refusal))?,
            };
            let tagged = |line| if several { format!("{pod}/{container}: {line}") } else { line };
            lines.extend(text.into_iter().map(tagged));
        }
        let superfluous = lines.len().saturating_sub(most);
        Ok(lines.split_off(superfluous))
    }

    /// The last lines of a container that has trouble: of the program that ended, or of the one that runs where it is the first.
    pub(super) async fn last_lines(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        most: usize,
    ) -> Result<Vec<String>, Refusal> {
        match self.lines_of_run(namespace, pod, container, true, most).await {
            Ok(lines) if lines.iter().any(|line| !line.trim().is_empty()) => Ok(lines),
            _ => self.lines_of_run(namespace, pod, container, false, most).await,
        }
    }

    async fn lines_of_run(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        previous: bool,
        most: usize,
    ) -> Result<Vec<String>, Refusal> {
        let text = self.server.log(namespace, pod, container, previous, most).await?;
        let secrets = self.secrets(namespace).await?;
        Ok(secrets.hide(&text).lines().map(str::to_owned).collect())
    }

    /// The values of the Secrets that this preview was given or brought itself.
    async fn secrets(&self, namespace: &str) -> Result<Redaction, Refusal> {
        let wanted = self.cache().places.get(namespace).map(|place| place.record.objects.wanted.clone());
        let secrets: Vec<_> =
            wanted.into_iter().flatten().filter(|wanted| wanted.object.kind.is_secret()).collect();
        let found = join_all(secrets.iter().map(|wanted| self.server.get(namespace, &wanted.object))).await;
        let mut values = Vec::new();
        for secret in found {
            let Some(secret) = secret? else { continue };
            let data = secret["data"].as_object().cloned().unwrap_or_default();
            for value in data.values().filter_map(Value::as_str) {
                let plain = BASE64_STANDARD.decode(value).ok();
                values.extend(plain.and_then(|plain| String::from_utf8(plain).ok()));
                values.push(value.to_owned());
            }
        }
        Ok(Redaction::new(values))
    }
}
