//! Which packets between which addresses are lost, by nftables on the bridge: it sees every packet between two hosts,
//! and between a host and the suite's clients.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    net::Ipv4Addr,
};

use crate::{shell::tool, Outcome};

/// From whom to whom: one direction.
pub type Pair = (Ipv4Addr, Ipv4Addr);

/// What each nemesis, by its name, wants to be lost. Nemeses that act at the same time do not undo each other.
#[derive(Debug, Default)]
pub struct Firewall {
    cuts: BTreeMap<String, BTreeSet<Pair>>,
    losses: BTreeMap<String, (u8, BTreeSet<Pair>)>,
}

impl Firewall {
    /// Every packet of these pairs is lost, until [`Firewall::mend`].
    ///
    /// # Errors
    /// nft refused the rules.
    pub fn cut(&mut self, owner: &str, pairs: impl IntoIterator<Item = Pair>) -> Outcome<()> {
        self.cuts.insert(owner.to_owned(), pairs.into_iter().collect());
        self.apply()
    }

    /// So many of 100 packets of these pairs are lost.
    ///
    /// # Errors
    /// As [`Firewall::cut`].
    pub fn lose(&mut self, owner: &str, percent: u8, pairs: impl IntoIterator<Item = Pair>) -> Outcome<()> {
        self.losses.insert(owner.to_owned(), (percent, pairs.into_iter().collect()));
        self.apply()
    }

    /// Takes back what `owner` asked for.
    ///
    /// # Errors
    /// As [`Firewall::cut`].
    pub fn mend(&mut self, owner: &str) -> Outcome<()> {
        self.cuts.remove(owner);
        self.losses.remove(owner);
        self.apply()
    }

    /// The whole table is replaced in one transaction of nft.
    fn apply(&self) -> Outcome<()> {
        tool(&["nft", "-f", "-"], Some(&self.rules())).map(drop)
    }

    fn rules(&self) -> String {
        let mut rules = String::new();
        let all: BTreeSet<Pair> = self.cuts.values().flatten().copied().collect();
        for (from, to) in all {
            let _ = writeln!(rules, "    ip saddr {from} ip daddr {to} drop");
        }
        for (percent, pairs) in self.losses.values() {
            for (from, to) in pairs {
                let _ = writeln!(rules, "    ip saddr {from} ip daddr {to} numgen random mod 100 < {percent} drop");
            }
        }
        let mut table = String::from("table bridge faults {}\ndelete table bridge faults\ntable bridge faults {\n");
        for hook in ["forward", "input", "output"] {
            let _ = writeln!(table, "  chain {hook} {{\n    type filter hook {hook} priority 0;\n{rules}  }}");
        }
        table + "}\n"
    }
}

/// Both directions between every two of two groups.
pub fn between(a: &[Ipv4Addr], b: &[Ipv4Addr]) -> Vec<Pair> {
    a.iter().flat_map(|x| b.iter().flat_map(move |y| [(*x, *y), (*y, *x)])).filter(|(x, y)| x != y).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn owners_do_not_undo_each_other() {
        let a = |n| Ipv4Addr::new(10, 77, 0, n);
        let mut firewall = Firewall::default();
        firewall.cuts.insert("halves".into(), between(&[a(1)], &[a(2)]).into_iter().collect());
        firewall.losses.insert("loss".into(), (30, BTreeSet::from([(a(1), a(3))])));
        assert_eq!(firewall.rules().matches("saddr 10.77.0.2 ip daddr 10.77.0.1 drop").count(), 3);
        firewall.cuts.remove("halves");
        assert!(!firewall.rules().contains("10.77.0.2"));
        assert_eq!(firewall.rules().matches("daddr 10.77.0.3 numgen random mod 100 < 30 drop").count(), 3);
    }
}
