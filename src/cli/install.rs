//! `greenroom install --print`: what greenroom needs in a cluster, to be read, changed and applied.

use minijinja::{Environment, UndefinedBehavior, context};
use url::Url;

use super::{Failure, output};
use crate::preview::valid_dns_label;

const TEMPLATE: &str = include_str!("../../templates/install/greenroom.yaml");

#[derive(Debug, clap::Args)]
pub(super) struct Flags {
    /// Print the objects. There is nothing else yet that could be done: what is applied should be read before.
    #[arg(long, required = true)]
    print: bool,
    /// Namespace that greenroom itself runs in.
    #[arg(long, default_value = "greenroom", value_parser = label)]
    namespace: String,
    /// Host that greenroom answers at; previews of static sites lie below `preview.` and this.
    #[arg(long, default_value = "greenroom.example.com", value_parser = host)]
    domain: String,
    /// Greenroom's image.
    #[arg(long, default_value = concat!("greenroom:", env!("CARGO_PKG_VERSION")), value_parser = image)]
    image: String,
    /// GitLab's base URL.
    #[arg(long, default_value = "https://gitlab.example.com")]
    gitlab_url: Url,
    /// Keep what greenroom remembers in a PostgreSQL, which is printed too, in place of a SQLite file.
    #[arg(long)]
    postgres: bool,
    /// Namespace of the ingress controller.
    #[arg(long, default_value = "ingress-nginx", value_parser = label)]
    ingress_namespace: String,
}

pub(super) fn run(flags: &Flags) -> Result<(), Failure> {
    let mut environment = Environment::new();
    environment.set_undefined_behavior(UndefinedBehavior::Strict);
    let text = environment.render_str(
        TEMPLATE,
        context! {
            namespace => &flags.namespace,
            domain => &flags.domain,
            image => &flags.image,
            gitlab_url => flags.gitlab_url.as_str().trim_end_matches('/'),
            ingress_namespace => &flags.ingress_namespace,
            postgres => flags.postgres,
        },
    );
    output::data(text.map_err(anyhow::Error::from)?.trim_end());
    Ok(())
}

fn label(text: &str) -> Result<String, String> {
    if valid_dns_label(text) { Ok(text.to_owned()) } else { Err(String::from("is no name of a namespace")) }
}

fn host(text: &str) -> Result<String, String> {
    if text.split('.').all(valid_dns_label) {
        Ok(text.to_owned())
    } else {
        Err(String::from("is no host name"))
    }
}

fn image(text: &str) -> Result<String, String> {
    let image = crate::gitlab::Image::parse(text);
    image.map(|_| text.to_owned()).ok_or_else(|| String::from("is no name of an image"))
}
