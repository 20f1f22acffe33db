//! The one comment.

use sha2::{Digest, Sha256};

use super::{Error, Reporter};
use crate::preview::{Preview, State};
use crate::render::{NoteFacts, marker_matches, note};

impl Reporter {
    /// Brings the comment up to date. Returns whether anything was written.
    pub async fn comment(&self, preview: &mut Preview) -> Result<bool, Error> {
        let text = note(NoteFacts { preview, instance: &self.instance })?;
        let digest = hex::encode(Sha256::digest(&text));
        let key = preview.key;
        if let Some(id) = preview.note_id {
            let there = if preview.note_digest.as_ref() == Some(&digest) {
                if self.forge.note_exists(key, id).await? {
                    return Ok(false);
                }
                false
            } else {
                match self.forge.update_note(key, id, &text).await {
                    // Written by the bot of a token that was replaced: from here on there is one of our own.
                    Err(error) if error.status() == Some(403) => false,
                    done => done?,
                }
            };
            if there {
                preview.note_digest = Some(digest);
                return Ok(true);
            }
            preview.note_id = None;
            preview.note_digest = None;
        }

        let me = self.forge.me(key.project_id).await?;
        let mut ours: Vec<_> = self
            .forge
            .notes(key)
            .await?
            .into_iter()
            .filter(|note| note.author_id == Some(me) && marker_matches(&note.body, &self.instance, key))
            .collect();
        ours.sort_by_key(|note| note.id);
        let mut ours = ours.into_iter();
        let kept = ours.next();
        for extra in ours {
            self.forge.delete_note(key, extra.id).await?;
        }
        let (id, written) = match kept {
            Some(note) if note.body.trim_end() == text => (note.id, false),
            Some(note) => {
                self.forge.update_note(key, note.id, &text).await?;
                (note.id, true)
            }
            None if makes_one(preview.state) => (self.forge.create_note(key, &text).await?, true),
            None => return Ok(false),
        };
        preview.note_id = Some(id);
        preview.note_digest = Some(digest);
        Ok(written)
    }
}

/// Whether a state is worth a first comment.
const fn makes_one(state: State) -> bool {
    matches!(state, State::Waiting | State::Deploying | State::Ready | State::Asleep | State::Failed)
}
