use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::trouble::Trouble;
use crate::constants::{PERTURBATION_MS_MAX, PERTURBATION_RULES_MAX};

/// Whose requests are disturbed, and how: the file of `--perturbation`.
///
/// Worked example: an operator's view of pods lags by up to two seconds while its view of nodes does not, so
/// that it sees changes of the two kinds in another order than they were made; one write in ten is done and
/// answered as if it had timed out.
///
/// ```yaml
/// seed: 7
/// rules:
/// - users: ["system:serviceaccount:shop:*"]
///   resources: ["pods"]
///   effect: hold
///   ms: [500, 2000]
/// - users: ["system:serviceaccount:shop:*"]
///   effect: fail-after-commit
///   percent: 10
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The same seed disturbs the same requests of a user, in the order in which they come.
    #[serde(default)]
    pub seed: u64,
    #[serde(default)]
    pub rules: Vec<Rule>,
    /// Users whose writes are recorded though no rule names them.
    #[serde(default)]
    pub observe: Vec<String>,
}

/// One way to disturb requests. All conditions must hold; those that are left out hold.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// Names of users; a `*` at the end stands for anything.
    pub users: Vec<String>,
    /// `pods`, `deployments.apps`.
    #[serde(default)]
    pub resources: Vec<String>,
    #[serde(default)]
    pub verbs: Vec<String>,
    pub effect: Effect,
    /// How many requests of a hundred are struck.
    #[serde(default = "always")]
    pub percent: u8,
    /// From and up to how many milliseconds, where the effect takes a time.
    #[serde(default)]
    pub ms: (u64, u64),
}

fn always() -> u8 {
    100
}

/// What an API server may legally do to its clients, and rarely does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Effect {
    /// The request waits for `ms` before anything is done.
    Delay,
    /// A get, list or watch at resourceVersion=0, which allows it, is answered with the state of `ms` ago.
    Stale,
    /// Every event of a watch arrives `ms` late, in order: against other kinds, changes are reordered.
    Hold,
    /// A watch pauses for `ms` after each event.
    Slow,
    /// A watch ends after `ms`, and the next one from a resourceVersion is answered with 410: list again.
    Drop,
    /// 410 for a watch from a resourceVersion, or for a list that is continued.
    Gone,
    /// 429 with Retry-After.
    Throttle,
    /// 500, and nothing is done.
    Fail,
    /// A write is done and answered with 504.
    FailAfterCommit,
}

impl Effect {
    fn takes_time(self) -> bool {
        matches!(self, Self::Delay | Self::Stale | Self::Hold | Self::Slow | Self::Drop)
    }

    fn strikes(self, verb: &str) -> bool {
        match self {
            Self::Delay | Self::Throttle | Self::Fail => true,
            Self::Stale => ["get", "list", "watch"].contains(&verb),
            Self::Gone => ["list", "watch"].contains(&verb),
            Self::Hold | Self::Slow | Self::Drop => verb == "watch",
            Self::FailAfterCommit => !["get", "list", "watch"].contains(&verb),
        }
    }
}

impl Plan {
    /// Reads a plan from YAML or JSON.
    ///
    /// # Errors
    /// A text that says what is wrong.
    pub fn parse(text: &str) -> Result<Self, String> {
        let plan: Self = serde_yaml_ng::from_str(text).map_err(|error| error.to_string())?;
        if plan.rules.len() > PERTURBATION_RULES_MAX {
            return Err(format!("{} rules; at most {PERTURBATION_RULES_MAX} are taken", plan.rules.len()));
        }
        for (i, rule) in plan.rules.iter().enumerate() {
            rule.check().map_err(|wrong| format!("rules[{i}]: {wrong}"))?;
        }
        Ok(plan)
    }

    /// Whether the user's requests are looked at.
    pub fn observes(&self, user: &str) -> bool {
        let named = self.rules.iter().flat_map(|rule| &rule.users).chain(&self.observe);
        named.into_iter().any(|pattern| fits(pattern, user))
    }

    /// What becomes of one request. `dice` gives a number below its argument, drawn twice for each rule that
    /// fits, whether it strikes or not.
    pub fn trouble(&self, user: &str, resource: &str, verb: &str, mut dice: impl FnMut(u64) -> u64) -> Trouble {
        let mut trouble = Trouble::default();
        for rule in self.rules.iter().filter(|rule| rule.fits(user, resource, verb)) {
            let struck = dice(100) < u64::from(rule.percent);
            let ms = rule.ms.0 + dice(rule.ms.1 - rule.ms.0 + 1);
            if struck {
                trouble.add(rule.effect, Duration::from_millis(ms));
            }
        }
        trouble
    }
}

impl Rule {
    fn check(&self) -> Result<(), String> {
        if self.users.is_empty() {
            return Err("users: names nobody".into());
        }
        if self.percent > 100 {
            return Err(format!("percent: {} is more than 100", self.percent));
        }
        let (from, to) = self.ms;
        if from > to || to > PERTURBATION_MS_MAX {
            return Err(format!("ms: {from} to {to} is not a range of at most {PERTURBATION_MS_MAX} ms"));
        }
        if self.effect.takes_time() && to == 0 {
            return Err("ms: this effect needs a time".into());
        }
        Ok(())
    }

    fn fits(&self, user: &str, resource: &str, verb: &str) -> bool {
        let named = |list: &[String], name: &str| list.is_empty() || list.iter().any(|one| one == name);
        self.users.iter().any(|pattern| fits(pattern, user))
            && named(&self.resources, resource)
            && named(&self.verbs, verb)
            && self.effect.strikes(verb)
    }
}

fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(beginning) => name.starts_with(beginning),
        None => pattern == name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAN: &str = r#"
seed: 7
observe: ["eve"]
rules:
- {users: ["system:serviceaccount:shop:*"], resources: [pods], effect: hold, ms: [500, 2000]}
- {users: ["ann"], verbs: [update], effect: fail-after-commit, percent: 10}
"#;

    #[test]
    fn a_rule_strikes_those_whom_it_names_and_as_often_as_it_says() {
        let plan = Plan::parse(PLAN).unwrap();
        let mut drawn = 0;
        let held = plan.trouble("system:serviceaccount:shop:op", "pods", "watch", |bound| {
            drawn += 1;
            bound - 1
        });
        assert_eq!((held.hold, drawn), (Duration::from_millis(2000), 2));
        for (user, resource, verb) in [("ann", "pods", "watch"), ("system:serviceaccount:shop:op", "nodes", "watch")] {
            assert_eq!(plan.trouble(user, resource, verb, |_| 0), Trouble::default());
        }
        assert!(plan.trouble("ann", "pods", "update", |bound| 9.min(bound - 1)).fail_after_commit);
        assert!(!plan.trouble("ann", "pods", "update", |bound| 10.min(bound - 1)).fail_after_commit);
        assert!(plan.observes("eve") && plan.observes("ann") && !plan.observes("bob"));
    }

    #[test]
    fn a_plan_that_makes_no_sense_is_refused_with_the_reason() {
        let refused = |rule: &str| Plan::parse(&format!("rules: [{rule}]")).unwrap_err();
        assert!(refused("{users: [], effect: fail}").contains("rules[0]: users"));
        assert!(refused("{users: [a], effect: fail, percent: 101}").contains("percent"));
        assert!(refused("{users: [a], effect: hold}").contains("needs a time"));
        assert!(refused("{users: [a], effect: hold, ms: [2, 1]}").contains("ms"));
        assert!(refused(&format!("{{users: [a], effect: hold, ms: [1, {}]}}", PERTURBATION_MS_MAX + 1)).contains("ms"));
        assert!(refused("{users: [a], effect: explode}").contains("explode"));
        assert!(refused("{users: [a], effect: fail, percents: 1}").contains("percents"));
        let many = vec!["{users: [a], effect: fail}"; PERTURBATION_RULES_MAX + 1];
        assert!(refused(&many.join(",")).contains("at most"));
        assert!(Plan::parse(&format!("rules: [{}]", many[1..].join(","))).is_ok());
    }
}
