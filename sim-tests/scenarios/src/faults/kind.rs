use std::{fmt, str::FromStr};

/// Which file a kind belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    Network,
    Process,
    Disk,
    Clock,
    Membership,
}

macro_rules! kinds {
    ($($kind:ident $name:literal $family:ident,)*) => {
        /// What goes wrong.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub enum Kind { $($kind,)* }

        impl Kind {
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            pub fn name(self) -> &'static str {
                match self { $(Self::$kind => $name,)* }
            }

            pub fn family(self) -> Family {
                match self { $(Self::$kind => Family::$family,)* }
            }
        }
    };
}

kinds! {
    Partition "partition" Network,
    IsolateLeader "isolate_leader" Network,
    OneWay "one_way" Network,
    Hold "hold" Network,
    Reorder "reorder" Network,
    SlowLink "slow_link" Network,
    Reset "reset" Network,
    Kill "kill" Process,
    PowerLoss "power_loss" Process,
    PowerCut "power_cut" Process,
    Freeze "freeze" Process,
    MoveLeader "move_leader" Process,
    LyingSync "lying_sync" Process,
    SlowDisk "slow_disk" Disk,
    FullDisk "full_disk" Disk,
    IoErrors "io_errors" Disk,
    BitFlip "bit_flip" Disk,
    Misdirect "misdirect" Disk,
    ClockJump "clock_jump" Clock,
    ClockDrift "clock_drift" Clock,
    FastTimers "fast_timers" Clock,
    ReplaceMember "replace_member" Membership,
    LoseDisk "lose_disk" Membership,
    Release "release" Membership,
}

/// One fault of a schedule. As text: `1500 +900 partition m1-m2 m1-m3`, `4000 +0 power_cut m2 =3`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// From the beginning of the run.
    pub at_ms: u64,
    pub for_ms: u64,
    pub kind: Kind,
    /// Whom it falls on, if not links.
    pub hosts: Vec<String>,
    /// Network faults: between whom; `one_way` loses what goes from the first to the second.
    pub links: Vec<(String, String)>,
    /// How much; the kind says of what.
    pub amount: i64,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} +{} {}", self.at_ms, self.for_ms, self.kind.name())?;
        self.hosts.iter().try_for_each(|host| write!(f, " {host}"))?;
        self.links.iter().try_for_each(|(a, b)| write!(f, " {a}-{b}"))?;
        if self.amount != 0 {
            write!(f, " ={}", self.amount)?;
        }
        Ok(())
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not `<at ms> +<for ms> <kind> <hosts or links> [=<amount>]`");
        let mut words = text.split_whitespace();
        let at_ms = words.next().and_then(|w| w.parse().ok()).ok_or_else(wrong)?;
        let for_ms = words.next().and_then(|w| w.strip_prefix('+')?.parse().ok()).ok_or_else(wrong)?;
        let name = words.next().ok_or_else(wrong)?;
        let kind = *Kind::ALL.iter().find(|kind| kind.name() == name).ok_or_else(wrong)?;
        let mut fault = Self { at_ms, for_ms, kind, hosts: Vec::new(), links: Vec::new(), amount: 0 };
        for word in words {
            if let Some(amount) = word.strip_prefix('=') {
                fault.amount = amount.parse().map_err(|_| wrong())?;
            } else if let Some((a, b)) = word.split_once('-') {
                fault.links.push((a.to_owned(), b.to_owned()));
            } else {
                fault.hosts.push(word.to_owned());
            }
        }
        Ok(fault)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_reads_back_as_it_was_written() {
        for text in ["1500 +900 partition m1-m2 m1-m3", "4000 +0 power_cut m2 =3", "7 +80 clock_jump m1 =-2000"] {
            assert_eq!(text.parse::<Fault>().unwrap().to_string(), text);
        }
        for wrong in ["", "1 2 kill m1", "1 +2 nonsense m1", "1 +2 kill m1 =x"] {
            assert!(wrong.parse::<Fault>().is_err(), "{wrong}");
        }
    }
}
