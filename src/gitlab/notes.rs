//! Comments on merge requests.

use gitlab::api::common::SortOrder;
use gitlab::api::projects::merge_requests::notes as endpoints;
use http::Method;
use serde::Deserialize;

use super::{Call, Error, Forge, built, found};
use crate::preview::MrKey;

#[derive(Deserialize)]
struct Shape {
    id: u64,
    body: Option<String>,
    author: Option<Author>,
    system: Option<bool>,
}

#[derive(Deserialize)]
struct Author {
    id: u64,
}

/// A comment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Unique per GitLab instance.
    pub id: u64,
    /// Markdown.
    pub body: String,
    /// User id of whoever wrote it.
    pub author_id: Option<u64>,
}

impl Forge {
    /// All comments on a merge request that people or programs wrote, oldest first, through all pages.
    pub async fn notes(&self, key: MrKey) -> Result<Vec<Note>, Error> {
        let endpoint = endpoints::MergeRequestNotes::builder()
            .project(key.project_id)
            .merge_request(key.iid)
            .sort(SortOrder::Ascending)
            .build();
        let shapes: Vec<Shape> = self.of(key.project_id).await?.all(built(endpoint)?).await?;
        Ok(shapes
            .into_iter()
            .filter(|shape| shape.system != Some(true))
            .map(|shape| Note {
                id: shape.id,
                body: shape.body.unwrap_or_default(),
                author_id: shape.author.map(|author| author.id),
            })
            .collect())
    }

    /// Writes a comment; its id.
    pub async fn create_note(&self, key: MrKey, body: &str) -> Result<u64, Error> {
        let endpoint = endpoints::CreateMergeRequestNote::builder()
            .project(key.project_id)
            .merge_request(key.iid)
            .body(body)
            .build();
        let shape: Shape = self.of(key.project_id).await?.get(built(endpoint)?).await?;
        Ok(shape.id)
    }

    /// Replaces a comment's text. `false` when there is no such comment any more.
    pub async fn update_note(&self, key: MrKey, id: u64, body: &str) -> Result<bool, Error> {
        let endpoint = endpoints::EditMergeRequestNote::builder()
            .project(key.project_id)
            .merge_request(key.iid)
            .note(id)
            .body(body)
            .build();
        found(self.of(key.project_id).await?.send(built(endpoint)?).await).map(|done| done.is_some())
    }

    /// Whether a comment still exists.
    pub async fn note_exists(&self, key: MrKey, id: u64) -> Result<bool, Error> {
        let path = format!("projects/{}/merge_requests/{}/notes/{id}", key.project_id, key.iid);
        found(self.of(key.project_id).await?.send(Call { method: Method::GET, path, form: Vec::new() }).await)
            .map(|done| done.is_some())
    }

    /// Deletes a comment. One that is gone already is fine.
    pub async fn delete_note(&self, key: MrKey, id: u64) -> Result<(), Error> {
        let path = format!("projects/{}/merge_requests/{}/notes/{id}", key.project_id, key.iid);
        found(
            self.of(key.project_id)
                .await?
                .send(Call { method: Method::DELETE, path, form: Vec::new() })
                .await,
        )
        .map(drop)
    }
}
