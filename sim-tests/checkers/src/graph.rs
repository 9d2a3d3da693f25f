//! A graph of transactions by what must come before what, and the cycles in it.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    fmt,
};

/// Why one transaction comes before another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Edge {
    /// It wrote, then the other wrote the same.
    Ww,
    /// It wrote what the other read.
    Wr,
    /// It read what the other then wrote over.
    Rw,
    /// It ended before the other began.
    Rt,
}

impl fmt::Display for Edge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Ww => "ww",
            Self::Wr => "wr",
            Self::Rw => "rw",
            Self::Rt => "rt",
        })
    }
}

/// Nodes are numbers.
#[derive(Clone, Debug)]
pub struct Graph {
    next: Vec<BTreeMap<usize, BTreeSet<Edge>>>,
}

/// A cycle: each node with the edge to the next one.
pub type Cycle = Vec<(usize, Edge)>;

/// The anomalies from the worst to the mildest: the edges of their cycles, and whether exactly one rw is on them.
const ANOMALIES: [(&str, &[Edge], bool); 8] = [
    ("G0", &[Edge::Ww], false),
    ("G1c", &[Edge::Ww, Edge::Wr], false),
    ("G-single", &[Edge::Ww, Edge::Wr], true),
    ("G2", &[Edge::Ww, Edge::Wr, Edge::Rw], false),
    ("G0-realtime", &[Edge::Ww, Edge::Rt], false),
    ("G1c-realtime", &[Edge::Ww, Edge::Wr, Edge::Rt], false),
    ("G-single-realtime", &[Edge::Ww, Edge::Wr, Edge::Rt], true),
    ("G2-realtime", &[Edge::Ww, Edge::Wr, Edge::Rw, Edge::Rt], false),
];

impl Graph {
    pub fn new(nodes: usize) -> Self {
        Self { next: vec![BTreeMap::new(); nodes] }
    }

    fn add(&mut self, from: usize, to: usize, edge: Edge) {
        if from != to {
            self.next[from].entry(to).or_default().insert(edge);
        }
    }

    pub fn ww(&mut self, from: usize, to: usize) {
        self.add(from, to, Edge::Ww);
    }

    pub fn wr(&mut self, from: usize, to: usize) {
        self.add(from, to, Edge::Wr);
    }

    pub fn rw(&mut self, from: usize, to: usize) {
        self.add(from, to, Edge::Rw);
    }

    /// Adds the edges of real time that do not follow from others. `spans` are starts and ends; `None`: never.
    pub fn real_time(&mut self, spans: &[Option<(u64, u64)>]) {
        let mut moments = Vec::new();
        for (i, span) in spans.iter().enumerate() {
            let Some((start, end)) = *span else { continue };
            // At one moment starts come first: what only touches is concurrent.
            moments.push((start, false, i));
            if end < u64::MAX {
                moments.push((end, true, i));
            }
        }
        moments.sort_unstable();
        // Those that have ended, and after whose end none has both begun and ended.
        let mut frontier: BTreeSet<usize> = BTreeSet::new();
        let mut before: BTreeMap<usize, BTreeSet<usize>> = BTreeMap::new();
        for (_, is_end, i) in moments {
            if is_end {
                for earlier in before.remove(&i).unwrap_or_default() {
                    frontier.remove(&earlier);
                }
                frontier.insert(i);
            } else {
                for earlier in &frontier {
                    self.add(*earlier, i, Edge::Rt);
                }
                before.insert(i, frontier.clone());
            }
        }
    }

    /// The worst anomaly and its cycle.
    pub fn anomaly(&self) -> Option<(&'static str, Cycle)> {
        let all = [Edge::Ww, Edge::Wr, Edge::Rw, Edge::Rt];
        // Every cycle lies within nodes that reach each other.
        let suspects: Vec<usize> = self.components(&all).into_iter().filter(|c| c.len() > 1).flatten().collect();
        if suspects.is_empty() {
            return None;
        }
        ANOMALIES.iter().find_map(|(name, edges, single)| {
            let cycle = if *single { self.single(&suspects, edges) } else { self.any(edges) };
            cycle.map(|cycle| (*name, cycle))
        })
    }

    fn successors<'a>(&'a self, node: usize, edges: &'a [Edge]) -> impl Iterator<Item = (usize, Edge)> + 'a {
        self.next[node].iter().filter_map(|(to, kinds)| Some((*to, *kinds.iter().find(|k| edges.contains(k))?)))
    }

    fn any(&self, edges: &[Edge]) -> Option<Cycle> {
        let component = self.components(edges).into_iter().find(|c| c.len() > 1)?;
        self.path(component[0], component[0], edges)
    }

    /// A cycle of one rw edge and otherwise `edges`.
    fn single(&self, suspects: &[usize], edges: &[Edge]) -> Option<Cycle> {
        let starts =
            suspects.iter().flat_map(|from| self.next[*from].iter().map(move |(to, kinds)| (*from, *to, kinds)));
        let mut anti = starts.filter(|(_, _, kinds)| kinds.contains(&Edge::Rw));
        anti.find_map(|(from, to, _)| {
            let mut cycle = vec![(from, Edge::Rw)];
            cycle.extend(self.path(to, from, edges)?);
            Some(cycle)
        })
    }

    /// The shortest path of at least one edge, each node with the edge that leaves it.
    fn path(&self, from: usize, to: usize, edges: &[Edge]) -> Option<Cycle> {
        let mut came: BTreeMap<usize, (usize, Edge)> = BTreeMap::new();
        let mut queue = VecDeque::from([from]);
        while let Some(node) = queue.pop_front() {
            for (next, edge) in self.successors(node, edges) {
                if came.contains_key(&next) {
                    continue;
                }
                came.insert(next, (node, edge));
                if next == to {
                    let mut path = Vec::new();
                    let mut at = to;
                    loop {
                        let (before, edge) = came[&at];
                        path.push((before, edge));
                        at = before;
                        if at == from {
                            path.reverse();
                            return Some(path);
                        }
                    }
                }
                queue.push_back(next);
            }
        }
        None
    }

    /// Strongly connected components (Kosaraju), without recursion: a history may be one long chain.
    fn components(&self, edges: &[Edge]) -> Vec<Vec<usize>> {
        let count = self.next.len();
        let mut order = Vec::with_capacity(count);
        let mut seen = vec![false; count];
        for root in 0..count {
            if std::mem::replace(&mut seen[root], true) {
                continue;
            }
            let mut stack = vec![(root, self.successors(root, edges))];
            while let Some((node, successors)) = stack.last_mut() {
                match successors.next() {
                    Some((next, _)) => {
                        if !std::mem::replace(&mut seen[next], true) {
                            stack.push((next, self.successors(next, edges)));
                        }
                    }
                    None => {
                        order.push(*node);
                        stack.pop();
                    }
                }
            }
        }
        let mut back = vec![Vec::new(); count];
        for node in 0..count {
            for (next, _) in self.successors(node, edges) {
                back[next].push(node);
            }
        }
        let mut components = Vec::new();
        let mut taken = vec![false; count];
        for root in order.into_iter().rev() {
            if std::mem::replace(&mut taken[root], true) {
                continue;
            }
            let (mut component, mut stack) = (Vec::new(), vec![root]);
            while let Some(node) = stack.pop() {
                component.push(node);
                stack.extend(back[node].iter().copied().filter(|n| !std::mem::replace(&mut taken[*n], true)));
            }
            components.push(component);
        }
        components
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn real_time_keeps_only_edges_that_do_not_follow_from_others() {
        let mut graph = Graph::new(4);
        graph.real_time(&[Some((0, 1)), Some((2, 3)), Some((4, 5)), Some((0, 9))]);
        let edges: Vec<(usize, usize)> =
            graph.next.iter().enumerate().flat_map(|(i, n)| n.keys().map(move |to| (i, *to))).collect();
        assert_eq!(edges, [(0, 1), (1, 2)]);
    }

    #[test]
    fn a_long_chain_has_no_cycle_and_closing_it_makes_one() {
        let mut graph = Graph::new(50_000);
        for i in 1..50_000 {
            graph.ww(i - 1, i);
        }
        assert!(graph.anomaly().is_none());
        graph.rw(49_999, 0);
        let (name, cycle) = graph.anomaly().unwrap();
        assert_eq!((name, cycle.len()), ("G-single", 50_000));
    }
}
