//! What a member without a log may do. Whoever forgot its log, votes and all, must not take part as if it had
//! never been there: so it asks the others first. Pure.

use std::collections::BTreeMap;

/// What another member said of itself and of this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    pub cluster_id: u64,
    /// It has no log, or nothing but the first entry in it.
    pub young: bool,
    /// This member is in its membership.
    pub lists_us: bool,
    /// This member has started before, as its membership says.
    pub knows_us: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    TakePart,
    /// Too few have answered to be sure.
    Wait,
    /// Why it never may.
    Refuse(String),
}

/// Judges by what others (of `members` first ones, this one included) have said, for a member of `cluster_id`.
///
/// It may take part if it cannot have taken part before: either so many others answered that every quorum it
/// can have been in had one of them, and none of them knows it; or, with it, a majority is new.
///
/// With three members: both others that do not know it, or one that is as new as it is.
pub(crate) fn judge(cluster_id: u64, members: usize, answers: &BTreeMap<u64, Answer>) -> Verdict {
    let quorum = members / 2 + 1;
    for (id, answer) in answers {
        if answer.cluster_id != cluster_id {
            return Verdict::Refuse(format!(
                "member {id:x} is of cluster {:x}, this one would be of cluster {cluster_id:x}",
                answer.cluster_id
            ));
        }
        if answer.knows_us {
            return Verdict::Refuse(
                "this member has taken part before and its data is gone: it must be replaced: removed, and \
                 added anew"
                    .to_owned(),
            );
        }
        if !answer.young && !answer.lists_us {
            return Verdict::Refuse("the cluster exists and this member is not one of it: it must be added".to_owned());
        }
    }
    let young = answers.values().filter(|answer| answer.young).count();
    let enough = if quorum > 1 { members - quorum + 1 } else { 0 };
    if young + 1 >= quorum || answers.len() >= enough {
        Verdict::TakePart
    } else {
        Verdict::Wait
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const YOUNG: Answer = Answer { cluster_id: 7, young: true, lists_us: false, knows_us: false };
    const OLD: Answer = Answer { cluster_id: 7, young: false, lists_us: true, knows_us: false };

    fn verdict(members: usize, answers: &[Answer]) -> Verdict {
        judge(7, members, &(2..).zip(answers.iter().copied()).collect())
    }

    #[test]
    fn new_members_form_a_cluster_as_soon_as_they_are_a_majority() {
        assert_eq!(verdict(1, &[]), Verdict::TakePart);
        assert_eq!(verdict(2, &[]), Verdict::Wait);
        assert_eq!(verdict(2, &[YOUNG]), Verdict::TakePart);
        assert_eq!(verdict(3, &[]), Verdict::Wait);
        assert_eq!(verdict(3, &[YOUNG]), Verdict::TakePart);
        assert_eq!(verdict(5, &[YOUNG]), Verdict::Wait);
        assert_eq!(verdict(5, &[YOUNG, YOUNG]), Verdict::TakePart);
    }

    #[test]
    fn a_late_member_needs_the_word_of_all_that_could_know_it() {
        assert_eq!(verdict(3, &[OLD]), Verdict::Wait, "the other one may have had a quorum with it");
        assert_eq!(verdict(3, &[OLD, OLD]), Verdict::TakePart);
        assert_eq!(verdict(5, &[OLD, OLD]), Verdict::Wait);
        assert_eq!(verdict(5, &[OLD, OLD, OLD]), Verdict::TakePart);
    }

    #[test]
    fn whoever_has_been_there_is_refused() {
        let knows = Answer { knows_us: true, ..OLD };
        assert!(matches!(verdict(3, &[YOUNG, knows]), Verdict::Refuse(why) if why.contains("replace")));
        let gone = Answer { lists_us: false, ..OLD };
        assert!(matches!(verdict(3, &[gone]), Verdict::Refuse(why) if why.contains("must be added")));
        let stranger = Answer { cluster_id: 8, ..YOUNG };
        assert!(matches!(verdict(3, &[stranger]), Verdict::Refuse(why) if why.contains("cluster 8")));
    }
}
