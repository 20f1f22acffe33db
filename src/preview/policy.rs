//! Which merge requests get a preview: what a project says under `when`, and the rule that reads it. Pure.
//!
//! The first part that excludes a merge request gives the reason, in the order draft, unwanted label, missing label,
//! target branch, paths. What GitLab has not shown yet never excludes anybody.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::facts::{Diff, MergeRequest, Sha};
use super::pattern::{BranchPattern, PathPattern};
use super::quoted::Quoted;
use super::reason::{Reason, list};

/// Which merge requests get a preview. Without it, all of them.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct When {
    /// Whether drafts get a preview.
    pub drafts: bool,
    /// Labels that a merge request must or must not have. Case counts, as in GitLab.
    pub labels: Labels,
    /// Globs on the branch a merge request goes to, such as `main` or `release/*`; at least one matches. `*` crosses
    /// slashes, as in GitLab's protected branches. Without any, all branches.
    pub target_branches: Vec<BranchPattern>,
    /// Globs on changed files, such as `web/**`; at least one file, by its old or new path, matches. `*` stays within a
    /// folder, `**` crosses folders. Without any, all files.
    pub paths: Vec<PathPattern>,
}

impl Default for When {
    fn default() -> Self {
        Self { drafts: true, labels: Labels::default(), target_branches: Vec::new(), paths: Vec::new() }
    }
}

/// Labels that a merge request must or must not have.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Labels {
    /// At least one of these. Without any, none is asked for.
    pub any: Vec<LabelName>,
    /// None of these.
    pub none: Vec<LabelName>,
}

/// A label's name, as GitLab could have it.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(try_from = "String")]
#[schemars(with = "String", extend("minLength" = 1, "maxLength" = 255))]
pub struct LabelName(String);

impl LabelName {
    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for LabelName {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        if text.contains(',') {
            return Err(format!("`{text}` has a comma, which no label has, expected one label per entry"));
        }
        if text.trim() != text || !(1..=255).contains(&text.chars().count()) {
            return Err(format!(
                "`{text}` is no label, expected 1 to 255 characters without blanks at its ends"
            ));
        }
        Ok(Self(text))
    }
}

/// A file that a merge request changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangedFile {
    /// Its path in the target branch; differs from the new one after a rename.
    pub old_path: String,
    /// Its path in the merge request.
    pub new_path: String,
}

/// What is known of the files that a merge request changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Changes {
    /// Not asked, or GitLab does not know them yet.
    Unknown,
    /// More than GitLab shows.
    Cut,
    /// All of them were compared with the globs.
    Compared(Compared),
}

/// How the files of one diff compare with one set of globs. Kept, so that an unchanged merge request is not asked again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Compared {
    /// What the head was compared with.
    pub base: Sha,
    /// The head.
    pub head: Sha,
    /// The globs, as they were written.
    pub globs: Vec<String>,
    /// The first file that matches; its path was written by a stranger.
    pub hit: Option<String>,
}

impl Compared {
    /// Whether it was made of this diff and these globs.
    pub fn is_of(&self, diff: &Diff, when: &When) -> bool {
        self.base == diff.base
            && self.head == diff.head
            && self.globs.iter().map(String::as_str).eq(when.paths.iter().map(PathPattern::as_str))
    }
}

/// What `when` says of a merge request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Judgement {
    /// It may have a preview.
    Admitted,
    /// It may not, for this reason.
    Excluded(Reason),
    /// It depends on the changed files, which are not known.
    Undecided,
}

impl When {
    /// Whether `merge_request` may have a preview; adds a sentence to `rules` for each part that counted.
    pub fn judge(
        &self,
        merge_request: &MergeRequest,
        changes: &Changes,
        rules: &mut Vec<String>,
    ) -> Judgement {
        if merge_request.key.subject.is_branch() {
            rules.push(String::from("`when` speaks of merge requests; of a branch its own jobs decide"));
            return Judgement::Admitted;
        }
        let outcome = self.excludes_facts(merge_request, rules);
        if let Some(reason) = outcome {
            return Judgement::Excluded(reason);
        }
        if self.paths.is_empty() {
            return Judgement::Admitted;
        }
        match changes {
            Changes::Unknown => Judgement::Undecided,
            Changes::Cut => {
                rules.push(String::from(
                    "it changes more files than GitLab lists, which counts as a match of `when.paths`",
                ));
                Judgement::Admitted
            }
            Changes::Compared(Compared { hit: Some(path), .. }) => {
                rules.push(format!("it changes {}, which `when.paths` asks for", Quoted::new(path)));
                Judgement::Admitted
            }
            Changes::Compared(Compared { hit: None, .. }) => {
                rules.push(String::from("no file that it changes matches `when.paths`"));
                Judgement::Excluded(Reason::PathsUntouched(list(self.paths.iter().map(PathPattern::as_str))))
            }
        }
    }

    /// What the merge request itself tells.
    fn excludes_facts(&self, merge_request: &MergeRequest, rules: &mut Vec<String>) -> Option<Reason> {
        let has = |label: &&LabelName| merge_request.labels.iter().any(|name| name == label.as_str());
        if !self.drafts {
            if merge_request.draft {
                rules.push(String::from("it is a draft, and `when.drafts` is false"));
                return Some(Reason::Draft);
            }
            rules.push(String::from("it is no draft, as `when.drafts: false` asks"));
        }
        if let Some(label) = self.labels.none.iter().find(has) {
            let label = Quoted::new(label.as_str());
            rules.push(format!("it has the label {label}, which `when.labels.none` excludes"));
            return Some(Reason::LabelExcluded(label));
        }
        if !self.labels.any.is_empty() {
            let Some(label) = self.labels.any.iter().find(has) else {
                rules.push(String::from("it has none of the labels that `when.labels.any` asks for"));
                return Some(Reason::LabelMissing(list(self.labels.any.iter().map(LabelName::as_str))));
            };
            rules.push(format!("it has the label {}", Quoted::new(label.as_str())));
        }
        if !self.target_branches.is_empty() {
            let target = Quoted::new(&merge_request.target_branch);
            let matches = |glob: &&BranchPattern| glob.matches(&merge_request.target_branch);
            let Some(glob) = self.target_branches.iter().find(matches) else {
                rules.push(format!("it goes to {target}, which `when.target_branches` does not name"));
                let wanted = list(self.target_branches.iter().map(BranchPattern::as_str));
                return Some(Reason::TargetBranch(target, wanted));
            };
            rules.push(format!("it goes to {target}, which matches {}", Quoted::new(glob.as_str())));
        }
        None
    }

    /// Compares the changed files of a diff with the globs. A list that is shorter than GitLab's own count is cut,
    /// whatever the reason; one that is empty although the commits differ, without a count, says nothing.
    pub fn compare(&self, diff: &Diff, files: &[ChangedFile]) -> Changes {
        let listed = files.len() as u64;
        if diff.cut || diff.count.is_some_and(|count| listed < count) {
            return Changes::Cut;
        }
        if files.is_empty() && diff.count.is_none() && diff.base != diff.head {
            return Changes::Unknown;
        }
        let matches = |path: &&String| self.paths.iter().any(|glob| glob.matches(path));
        let hit = files.iter().flat_map(|file| [&file.new_path, &file.old_path]).find(matches).cloned();
        let globs = self.paths.iter().map(|glob| glob.as_str().to_owned()).collect();
        Changes::Compared(Compared { base: diff.base.clone(), head: diff.head.clone(), globs, hit })
    }
}

#[cfg(test)]
mod tests;
