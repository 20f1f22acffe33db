//! A pipeline's status out of the statuses of its current jobs, bridges and commit statuses: the
//! rules of GitLab's `Ci::Status::Composite`.

/// A part's status, and whether it may fail.
pub(super) type Part<'a> = (&'a str, bool);

/// The pipeline's status; without any part it was just created.
pub(super) fn status<'a>(parts: impl Iterator<Item = Part<'a>>) -> &'static str {
    let seen: Vec<&str> = parts.map(consume).collect();
    let only = |allowed: &[&str]| seen.iter().all(|status| allowed.contains(status));
    let any = |wanted: &[&str]| seen.iter().any(|status| wanted.contains(status));
    let order =
        ["canceling", "waiting_for_callback", "waiting_for_resource", "manual", "scheduled", "preparing"];
    if seen.is_empty() {
        "created"
    } else if only(&["skipped", "ignored"]) {
        "skipped"
    } else if only(&["success", "skipped", "warning", "ignored"]) {
        "success"
    } else if only(&["created", "warning", "ignored"]) {
        "created"
    } else if only(&["preparing", "warning", "ignored"]) {
        "preparing"
    } else if only(&["canceled", "success", "skipped", "warning", "ignored"]) {
        "canceled"
    } else if only(&["pending", "created", "skipped", "warning", "ignored"]) {
        "pending"
    } else if any(&["running", "pending"]) {
        "running"
    } else if let Some(found) = order.into_iter().find(|status| any(&[status])) {
        found
    } else if any(&["created"]) {
        "running"
    } else {
        "failed"
    }
}

/// A job that may fail does not count when it failed or waits for a hand.
fn consume((status, allow_failure): Part<'_>) -> &str {
    match status {
        "failed" | "canceled" if allow_failure => "warning",
        "manual" if allow_failure => "ignored",
        other => other,
    }
}

/// Whether nothing more will happen by itself.
pub(in crate::sandbox) fn complete(status: &str) -> bool {
    ["success", "failed", "canceled", "skipped"].contains(&status)
}

#[cfg(test)]
mod tests {
    use super::status;

    #[test]
    fn statuses_combine_as_gitlab_combines_them() {
        let of = |parts: &[(&'static str, bool)]| status(parts.iter().copied());
        assert_eq!(of(&[]), "created");
        assert_eq!(of(&[("success", false), ("failed", true)]), "success");
        assert_eq!(of(&[("success", false), ("failed", false)]), "failed");
        assert_eq!(of(&[("success", false), ("manual", true)]), "success");
        assert_eq!(of(&[("success", false), ("manual", false)]), "manual");
        assert_eq!(of(&[("success", false), ("pending", false)]), "running");
        assert_eq!(of(&[("success", false), ("created", false)]), "running");
        assert_eq!(of(&[("created", false), ("pending", false)]), "pending");
        assert_eq!(of(&[("success", false), ("canceled", false)]), "canceled");
        assert_eq!(of(&[("skipped", false), ("skipped", false)]), "skipped");
    }
}
