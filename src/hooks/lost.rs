//! Which failed deliveries are worth sending again.

use std::collections::{BTreeMap, BTreeSet};

use crate::gitlab::HookDelivery;

/// After so many failures of one delivery it is given up.
const ATTEMPTS: usize = 3;

/// From the failures that GitLab remembers, newest first: for each delivery its id and newest attempt, newest first, without
/// those that failed too often. GitLab's own memory is what bounds it, so a restart begins nothing anew.
pub(super) fn candidates(failed: &[HookDelivery]) -> Vec<(&str, u64)> {
    let mut failures: BTreeMap<&str, usize> = BTreeMap::new();
    for id in failed.iter().filter_map(|delivery| delivery.id.as_deref()) {
        *failures.entry(id).or_default() += 1;
    }
    let mut seen = BTreeSet::new();
    failed
        .iter()
        .filter_map(|delivery| Some((delivery.id.as_deref()?, delivery.attempt)))
        .filter(|(id, _)| failures.get(id).is_some_and(|failures| *failures < ATTEMPTS) && seen.insert(*id))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn failed(all: &[(u64, Option<&str>)]) -> Vec<HookDelivery> {
        let delivery = |(attempt, id): &(u64, Option<&str>)| HookDelivery {
            attempt: *attempt,
            id: id.map(str::to_owned),
            status: String::from("500"),
        };
        all.iter().map(delivery).collect()
    }

    #[test]
    fn each_delivery_once_by_its_newest_attempt_and_not_for_ever() {
        let all = failed(&[
            (9, Some("a")),
            (8, Some("b")),
            (7, Some("c")),
            (6, Some("b")),
            (5, None),
            (4, Some("c")),
            (3, Some("c")),
        ]);
        assert_eq!(candidates(&all), [("a", 9), ("b", 8)]);
        assert_eq!(candidates(&[]), []);
    }
}
