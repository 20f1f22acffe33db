//! GitLab's own quick actions: a known command at the start of a line, outside of code blocks, is
//! executed and removed from the text. Commands that GitLab does not know stay in the note.

use crate::sandbox::{refusal::Refusal, state::State};
use serde_json::{Value, json};

/// Known to GitLab but without effect here; they are removed all the same.
const WITHOUT_EFFECT: &[&str] = &[
    "approve",
    "assign",
    "assign_reviewer",
    "copy_metadata",
    "done",
    "due",
    "estimate",
    "lock",
    "milestone",
    "react",
    "reassign",
    "rebase",
    "remove_estimate",
    "remove_milestone",
    "request_changes",
    "request_review",
    "reviewer",
    "spend",
    "submit_review",
    "subscribe",
    "todo",
    "unapprove",
    "unassign",
    "unlock",
    "unsubscribe",
];

/// Known and executed.
const WITH_EFFECT: &[&str] =
    &["close", "reopen", "merge", "title", "draft", "ready", "label", "unlabel", "relabel", "target_branch"];

/// One command and its arguments.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Command {
    name: String,
    arguments: String,
}

/// A note's text without GitLab's own commands.
#[derive(Debug)]
pub(super) struct Extracted {
    pub(super) text: String,
    pub(super) commands: Vec<Command>,
}

pub(super) fn extract(text: &str) -> Extracted {
    let mut commands = Vec::new();
    let mut kept = String::new();
    let mut fenced = false;
    for line in text.split_inclusive('\n') {
        fenced ^= line.trim_start().starts_with("```");
        match command(line).filter(|_| !fenced) {
            Some(command) => commands.push(command),
            None => kept.push_str(line),
        }
    }
    // GitLab trims a text only where it removed something.
    let text = if commands.is_empty() { text.to_owned() } else { kept.trim().to_owned() };
    Extracted { text, commands }
}

fn command(line: &str) -> Option<Command> {
    let (name, arguments) =
        line.trim_end().strip_prefix('/').map(|rest| rest.split_once(' ').unwrap_or((rest, "")))?;
    let known = WITH_EFFECT.contains(&name) || WITHOUT_EFFECT.contains(&name);
    known.then(|| Command { name: name.to_owned(), arguments: arguments.trim().to_owned() })
}

impl State {
    /// Executes commands; what they changed is the answer's `commands_changes`.
    pub(super) fn execute(
        &mut self,
        project: u64,
        iid: u64,
        user: u64,
        commands: &[Command],
    ) -> Result<Vec<(String, Value)>, Refusal> {
        let mut changes = Vec::new();
        for command in commands {
            let arguments = command.arguments.clone();
            let labels: Vec<_> =
                arguments.split_whitespace().map(|label| label.trim_matches(['~', '"']).to_owned()).collect();
            match command.name.as_str() {
                "close" | "reopen" => {
                    self.set_merge_request_state(project, iid, &command.name, user)?;
                    changes.push(("state_event".to_owned(), json!(command.name)));
                }
                "merge" => {
                    self.merge(project, iid, user)?;
                    changes.push(("merge".to_owned(), json!(self.merge_request(project, iid)?.sha)));
                }
                "title" => {
                    self.change_merge_request(project, iid, user, |one| one.title.clone_from(&arguments))?;
                    changes.push(("title".to_owned(), json!(arguments)));
                }
                "draft" | "ready" => {
                    let draft = command.name == "draft";
                    self.change_merge_request(project, iid, user, |one| match (draft, one.draft()) {
                        (true, false) => one.title = format!("Draft: {}", one.title),
                        (false, true) => one.title = ready(&one.title),
                        _ => {}
                    })?;
                    changes.push(("wip_event".to_owned(), json!(command.name)));
                }
                "label" => {
                    self.change_merge_request(project, iid, user, |one| {
                        let new = labels
                            .iter()
                            .filter(|label| !one.labels.contains(label))
                            .cloned()
                            .collect::<Vec<_>>();
                        one.labels.extend(new);
                    })?;
                    changes.push(("add_label_ids".to_owned(), json!(labels)));
                }
                "unlabel" => {
                    self.change_merge_request(project, iid, user, |one| {
                        one.labels.retain(|label| !labels.is_empty() && !labels.contains(label));
                    })?;
                    changes.push(("remove_label_ids".to_owned(), json!(labels)));
                }
                "relabel" => {
                    self.change_merge_request(project, iid, user, |one| one.labels.clone_from(&labels))?;
                    changes.push(("label_ids".to_owned(), json!(labels)));
                }
                "target_branch" => {
                    self.change_merge_request(project, iid, user, |one| {
                        arguments.clone_into(&mut one.target_branch);
                    })?;
                    changes.push(("target_branch".to_owned(), json!(arguments)));
                }
                other => changes.push((other.to_owned(), json!(true))),
            }
        }
        Ok(changes)
    }
}

/// A title without its `Draft:`.
fn ready(title: &str) -> String {
    title.strip_prefix("Draft:").unwrap_or(title).trim().to_owned()
}
