/// How much is measured.
pub struct Plan {
    pub quick: bool,
    /// Rounds of each system and row, in turn.
    pub rounds: usize,
    pub round_s: f64,
    /// Keys of the large store.
    pub large_keys: u64,
    /// Times that the leader is killed.
    pub kills: usize,
    /// Seconds of puts beside quiet and beside each of the things that go on.
    pub reclaim_s: u64,
    only: Vec<String>,
}

impl Plan {
    pub fn new(quick: bool, only: &[String]) -> Self {
        let only = only.to_vec();
        match quick {
            true => Self { quick, rounds: 2, round_s: 1.0, large_keys: 50_000, kills: 2, reclaim_s: 3, only },
            false => Self { quick, rounds: 3, round_s: 4.0, large_keys: 1_000_000, kills: 20, reclaim_s: 15, only },
        }
    }

    pub fn wants(&self, row: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|part| row.contains(part.as_str()))
    }
}
