//! Everything a story needs, connected as in real life: GitLab's webhook to greenroom, greenroom's calls over the wire.

use url::Url;

use super::{
    free_address,
    gitlab::{BOT, Gitlab, SIGNING_TOKEN},
    greenroom::Greenroom,
    wire::Wire,
};

/// Dropped in this order: nobody talks any more when the wire asks for the verdicts.
pub struct World {
    pub greenroom: Greenroom,
    /// From greenroom to GitLab.
    pub wire: Wire,
    pub gitlab: Gitlab,
}

impl World {
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// With these settings over the usual ones.
    pub async fn start_with(settings: &[(&str, &str)]) -> Self {
        let address = free_address().to_string();
        let webhook: Url = format!("http://{address}/webhooks/gitlab").parse().unwrap();
        let gitlab = Gitlab::start(Some(&webhook)).await;
        let wire = Wire::to_gitlab(&gitlab.url()).await;
        let usual = [
            ("GREENROOM_LISTEN", address.as_str()),
            ("GREENROOM_GITLAB_URL", wire.url().as_str()),
            ("GREENROOM_GITLAB_TOKEN", BOT),
            ("GREENROOM_WEBHOOK_SIGNING_TOKEN", SIGNING_TOKEN),
        ];
        let greenroom = Greenroom::start(&[usual.as_slice(), settings].concat()).await;
        Self { greenroom, wire, gitlab }
    }
}
