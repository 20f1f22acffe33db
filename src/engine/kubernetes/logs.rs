//! What the programs of a preview wrote, without the secrets they were given.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use futures::future::join_all;
use serde_json::Value;

use super::super::Error;
use super::Inner;
use super::refusal::Refusal;

/// How many pods are listened to.
const PODS: usize = 5;
/// Shorter values are words of the language rather than secrets.
const SHORTEST: usize = 4;
const HIDDEN: &str = "[redacted]";

impl Inner {
    /// The last lines of a preview's pods, those with a problem first; at most `most` in all.
    pub(super) async fn logs(&self, name: &str, most: usize) -> Result<Vec<String>, Error> {
        let mut spoken: Vec<(bool, String, Vec<String>)> = self
            .cache()
            .all(name, "Pod")
            .map(|(pod, seen)| {
                let spoke = seen.finding.as_ref().and_then(|finding| finding.spoke.clone());
                let containers = spoke.map_or_else(|| seen.containers.clone(), |container| vec![container]);
                (seen.finding.is_none(), pod.clone(), containers)
            })
            .collect();
        spoken.sort();
        let sources: Vec<(String, String)> = spoken
            .into_iter()
            .take(PODS)
            .flat_map(|(_, pod, containers)| containers.into_iter().map(move |it| (pod.clone(), it)))
            .collect();
        let several = sources.len() > 1;
        let each = most / sources.len().max(1);
        let texts = join_all(
            sources.iter().map(|(pod, container)| self.last_lines(name, pod, container, each.max(1))),
        )
        .await;
        let mut lines = Vec::new();
        for ((pod, container), text) in sources.iter().zip(texts) {
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

    /// The last lines of a container: of the program that runs, or of the one before it when that was the last to speak.
    pub(super) async fn last_lines(
        &self,
        namespace: &str,
        pod: &str,
        container: &str,
        most: usize,
    ) -> Result<Vec<String>, Refusal> {
        let mut text = self.server.log(namespace, pod, container, true, most).await;
        if !text.as_ref().is_ok_and(|text| !text.trim().is_empty()) {
            text = self.server.log(namespace, pod, container, false, most).await;
        }
        let text = text?;
        let secrets = self.secrets(namespace).await?;
        Ok(redact(&text, &secrets).lines().map(str::to_owned).collect())
    }

    /// The values of the Secrets that this preview was given or brought itself.
    async fn secrets(&self, namespace: &str) -> Result<Vec<String>, Refusal> {
        let wanted = self.cache().places.get(namespace).map(|place| place.record.objects.wanted.clone());
        let secrets: Vec<_> =
            wanted.into_iter().flatten().filter(|wanted| wanted.object.kind.is_secret()).collect();
        let found = join_all(secrets.iter().map(|wanted| self.server.get(namespace, &wanted.object))).await;
        let mut values = BTreeSet::new();
        for secret in found {
            let Some(secret) = secret? else { continue };
            let data = secret["data"].as_object().cloned().unwrap_or_default();
            for value in data.values().filter_map(Value::as_str) {
                values.insert(value.to_owned());
                let plain =
                    BASE64_STANDARD.decode(value).ok().and_then(|plain| String::from_utf8(plain).ok());
                values
                    .extend(plain.iter().flat_map(|plain| plain.lines()).map(|line| line.trim().to_owned()));
            }
        }
        // A secret that contains another one goes first.
        let mut values: Vec<String> = values.into_iter().collect();
        values.sort_by_key(|value| std::cmp::Reverse(value.len()));
        Ok(values)
    }
}

/// `text` without `secrets`, of which the longest come first.
fn redact(text: &str, secrets: &[String]) -> String {
    secrets
        .iter()
        .filter(|secret| secret.chars().count() >= SHORTEST)
        .fold(text.to_owned(), |text, secret| text.replace(secret.as_str(), HIDDEN))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_shows_no_secret() {
        let secrets = ["hush-and-more", "hush", "on"].map(str::to_owned);
        let text = "token=hush-and-more\npassword=hush on\n";
        assert_eq!(redact(text, &secrets), "token=[redacted]\npassword=[redacted] on\n");
    }
}
