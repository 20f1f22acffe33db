//! The commit status in the pipeline that was deployed from.

use super::{Error, Reporter};
use crate::preview::{Preview, commit_status_name};

impl Reporter {
    /// Says what `preview.commit_status` is about to say. `again`: it may have been said already, before a crash or a lost
    /// answer; GitLab then is asked first, for it would make a second status of a final one.
    pub async fn commit_status(&self, preview: &mut Preview, again: bool) -> Result<(), Error> {
        let project = preview.key.project_id;
        let Some(iid) = preview.key.subject.iid() else { return Ok(()) };
        let name = commit_status_name(iid);
        let Some(status) = &mut preview.commit_status else { return Ok(()) };
        let Some(said) = status.said.as_ref().filter(|_| !status.answered) else { return Ok(()) };
        let answer = async {
            let asks = again && said.state.is_final();
            if asks && self.forge.has_commit_status(project, status, &name, said).await? {
                return Ok(());
            }
            self.forge.say_commit_status(project, status, &name, said, &preview.url).await
        };
        match answer.await {
            Ok(()) => status.taken(),
            Err(error) => {
                if error.is_refusal() {
                    status.refused(error.status() == Some(403));
                }
                return Err(error.into());
            }
        }
        Ok(())
    }
}
