//! GitLab's environment and our deployments in it.

use super::{Error, Reporter};
use crate::gitlab::{DeploymentOutcome, Environment, EnvironmentState};
use crate::preview::{Preview, valid_dns_label};

/// How the description of every environment of ours begins; our instance id follows.
const TAG: &str = "Made by greenroom, instance ";

/// The greenroom instance that made this environment, if one did.
pub fn instance_of(environment: &Environment) -> Option<&str> {
    let text = environment.description.as_deref()?.strip_prefix(TAG)?;
    text.split_once('.').map(|(instance, _)| instance).filter(|instance| valid_dns_label(instance))
}

impl Reporter {
    /// Our instance id.
    pub fn instance(&self) -> &str {
        &self.instance
    }

    /// Learns the id of the environment that we made, if there is one.
    pub async fn find_environment(&self, preview: &mut Preview) -> Result<(), Error> {
        if preview.environment_id.is_none() {
            let name = preview.environment_name();
            let found = self.forge.environment_by_name(preview.key.project_id, &name).await?;
            preview.environment_id =
                found.filter(|found| instance_of(found) == Some(&self.instance)).map(|found| found.id);
        }
        Ok(())
    }

    /// The environment as GitLab shows it; `None` when we have none or GitLab does not show it.
    pub async fn environment(&self, preview: &Preview) -> Result<Option<Environment>, Error> {
        match preview.environment_id {
            Some(id) => Ok(self.forge.environment(preview.key.project_id, id).await?),
            None => Ok(None),
        }
    }

    /// Makes sure that the environment exists and links to the preview.
    pub async fn ensure_environment(&self, preview: &mut Preview) -> Result<(), Error> {
        if preview.environment_id.is_some() {
            return Ok(());
        }
        let project = preview.key.project_id;
        let name = preview.environment_name();
        let description = self.description(preview);
        let created = self.forge.create_environment(project, &name, &preview.url, &description).await?;
        let environment = match created {
            Some(environment) => environment,
            // The name is taken: by a job with `environment: {action: prepare}`, or by us before a crash.
            None => self.forge.environment_by_name(project, &name).await?.ok_or_else(|| {
                crate::gitlab::Error::Unreadable {
                    what: format!("environment {name}"),
                    why: String::from("its name is taken, but the list does not have it"),
                }
            })?,
        };
        self.adopt(preview, &environment).await
    }

    /// Takes over the environment that GitLab made for a job, if there is one.
    pub async fn adopt_environment(&self, preview: &mut Preview) -> Result<(), Error> {
        if preview.environment_id.is_none() {
            let name = preview.environment_name();
            if let Some(found) = self.forge.environment_by_name(preview.key.project_id, &name).await? {
                self.adopt(preview, &found).await?;
            }
        }
        Ok(())
    }

    /// Makes an environment link to the preview and say whose it is.
    async fn adopt(&self, preview: &mut Preview, environment: &Environment) -> Result<(), Error> {
        let description = self.description(preview);
        if environment.description.as_ref().is_some_and(|text| text.starts_with(TAG) && *text != description)
        {
            return Err(Error::Taken { name: environment.name.clone() });
        }
        let linked = environment.external_url.as_ref() == Some(&preview.url);
        if !linked || environment.description.as_ref() != Some(&description) {
            let (project, url) = (preview.key.project_id, &preview.url);
            self.forge.update_environment(project, environment.id, url, &description).await?;
        }
        preview.environment_id = Some(environment.id);
        preview.environment_seen = environment.state == EnvironmentState::Available;
        Ok(())
    }

    /// Makes the environment link to the preview again, after the preview's link has changed.
    pub async fn link_environment(&self, preview: &Preview) -> Result<(), Error> {
        if let Some(id) = preview.environment_id {
            let project = preview.key.project_id;
            self.forge.update_environment(project, id, &preview.url, &self.description(preview)).await?;
        }
        Ok(())
    }

    /// Replaces an environment that GitLab stopped or lost by a new one with the deployment that it had.
    pub async fn renew_environment(&self, preview: &mut Preview) -> Result<(), Error> {
        if let Some(id) = preview.environment_id {
            self.forge.delete_environment(preview.key.project_id, id).await?;
            preview.environment_id = None;
        }
        self.ensure_environment(preview).await?;
        if let Some(deployment) = &mut preview.deployment {
            deployment.id = None;
            deployment.finished = false;
        }
        self.open_deployment(preview).await
    }

    /// Learns the id of a deployment whose creation was cut off between the request and the answer; ends what it finds
    /// besides.
    pub async fn recover_deployment(&self, preview: &mut Preview) -> Result<(), Error> {
        let name = preview.environment_name();
        let Some(deployment) = preview.deployment.as_mut().filter(|d| d.id.is_none() && !d.finished) else {
            return Ok(());
        };
        let project = preview.key.project_id;
        let running = self.forge.running_deployments(project, &name).await?;
        for (id, sha) in running {
            if deployment.id.is_none() && sha == deployment.sha {
                deployment.id = Some(id);
            } else {
                self.forge.finish_deployment(project, id, DeploymentOutcome::Canceled).await?;
            }
        }
        if deployment.id.is_none() {
            preview.deployment = None;
        }
        Ok(())
    }

    /// Records the running deployment that `preview.deployment` announces.
    pub async fn open_deployment(&self, preview: &mut Preview) -> Result<(), Error> {
        let name = preview.environment_name();
        let Some(deployment) = preview.deployment.as_mut().filter(|d| d.id.is_none() && !d.finished) else {
            return Ok(());
        };
        let project = preview.key.project_id;
        let id = self.forge.create_deployment(project, &name, &deployment.sha, &deployment.reference).await?;
        deployment.id = Some(id);
        Ok(())
    }

    /// Brings our deployment to its final status.
    pub async fn finish_deployment(
        &self,
        preview: &mut Preview,
        outcome: DeploymentOutcome,
    ) -> Result<(), Error> {
        if let Some(deployment) = preview.deployment.as_mut().filter(|deployment| !deployment.finished) {
            if let Some(id) = deployment.id {
                self.forge.finish_deployment(preview.key.project_id, id, outcome).await?;
            }
            deployment.finished = true;
        }
        Ok(())
    }

    /// Stops and deletes the environment. Returns what is left, in words; empty means gone.
    pub async fn remove_environment(&self, preview: &mut Preview) -> Result<Vec<String>, Error> {
        let project = preview.key.project_id;
        let name = preview.environment_name();
        let mut stopped = None;
        if let Some(id) = preview.environment_id {
            stopped = self.forge.stop_environment(project, id).await?.map(|state| (id, state));
        }
        if stopped.is_none()
            && let Some(id) = self.unknown_environment(preview).await?
        {
            stopped = self.forge.stop_environment(project, id).await?.map(|state| (id, state));
        }
        match stopped {
            None => {}
            Some((id, EnvironmentState::Stopped)) => self.forge.delete_environment(project, id).await?,
            Some(_) => return Ok(vec![format!("GitLab has not stopped the environment `{name}`")]),
        }
        preview.environment_id = None;
        preview.deployment = None;
        Ok(Vec::new())
    }

    /// The environment of this name, of whose creation we never heard. Only what carries our description is ours.
    async fn unknown_environment(&self, preview: &Preview) -> Result<Option<u64>, Error> {
        match self.forge.environment_by_name(preview.key.project_id, &preview.environment_name()).await {
            Ok(found) => Ok(found
                .filter(|found| found.description.as_ref() == Some(&self.description(preview)))
                .map(|found| found.id)),
            // Environments are switched off or not for us: then none was made.
            Err(error) if error.is_refusal() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    fn description(&self, preview: &Preview) -> String {
        let end = if preview.key.subject.is_branch() { "it is stopped" } else { "the merge request ends" };
        format!("{TAG}{}. It is removed when {end}.", self.instance)
    }
}
