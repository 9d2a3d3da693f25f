use keelstone_agent::{
    pod::{plan, status, Action, PodMemory},
    runtime::{ContainerPhase, ContainerState, SandboxState},
};
use proptest::prelude::*;
use serde_json::{json, Value};

use super::machine::{delete, pod, Machine, START_S};

const NAMES: [&str; 4] = ["init", "side", "a", "b"];
const ROUNDS: usize = 400;

fn policy() -> impl Strategy<Value = &'static str> {
    prop_oneof![Just("Always"), Just("OnFailure"), Just("Never")]
}

fn spec() -> impl Strategy<Value = Value> {
    (policy(), any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(policy, init, side, second)| {
        let mut inits = Vec::new();
        if init {
            inits.push(json!({"name": "init"}));
        }
        if side {
            inits.push(json!({"name": "side", "restartPolicy": "Always"}));
        }
        let mut containers = vec![json!({"name": "a"})];
        if second {
            containers.push(json!({"name": "b"}));
        }
        json!({"restartPolicy": policy, "initContainers": inits, "containers": containers})
    })
}

/// What happens to a pod between two rounds.
#[derive(Clone, Debug)]
enum Event {
    Nothing,
    End(&'static str, i32),
    /// From now on it ends by itself with this code, or runs on.
    Exits(&'static str, Option<i32>),
    PowerLoss,
    Forget,
    Time(i64),
}

fn event() -> impl Strategy<Value = Event> {
    let name = || prop::sample::select(&NAMES[..]);
    prop_oneof![
        3 => Just(Event::Nothing),
        2 => (name(), prop_oneof![Just(0), Just(1), Just(137)]).prop_map(|(n, c)| Event::End(n, c)),
        1 => (name(), prop::option::of(0..2)).prop_map(|(n, c)| Event::Exits(n, c)),
        1 => Just(Event::PowerLoss),
        1 => Just(Event::Forget),
        1 => (0..500_i64).prop_map(Event::Time),
    ]
}

fn happen(machine: &mut Machine, event: &Event) {
    match event {
        Event::Nothing => {}
        Event::End(name, code) => machine.end(name, *code),
        Event::Exits(name, code) => {
            match code {
                Some(code) => machine.exits.insert((*name).into(), *code),
                None => machine.exits.remove(*name),
            };
        }
        Event::PowerLoss => machine.lose_power(),
        // The agent was started anew.
        Event::Forget => machine.memory = PodMemory::default(),
        Event::Time(seconds) => machine.now_unix_s += seconds,
    }
}

fn container() -> impl Strategy<Value = ContainerState> {
    let phase = prop_oneof![
        Just(ContainerPhase::Created),
        Just(ContainerPhase::Running),
        Just(ContainerPhase::Unknown),
        (any::<i32>(), any::<i64>()).prop_map(|(code, finished_unix_ns)| ContainerPhase::Exited {
            code,
            finished_unix_ns,
            reason: String::new(),
            message: String::new(),
        }),
    ];
    (any::<u8>(), prop::sample::select(&["a", "b", "init", "side", "stranger"][..]), any::<u32>(), phase, any::<i64>())
        .prop_map(|(id, name, attempt, phase, at)| ContainerState {
            id: format!("c{id}"),
            name: name.into(),
            attempt,
            phase,
            created_unix_ns: at,
            started_unix_ns: at,
            image: String::new(),
            image_id: String::new(),
        })
}

fn sandbox() -> impl Strategy<Value = SandboxState> {
    (any::<u8>(), any::<u32>(), any::<bool>(), prop::collection::vec(container(), 0..5)).prop_map(
        |(id, attempt, ready, containers)| SandboxState {
            id: format!("s{id}"),
            pod: Default::default(),
            attempt,
            ready,
            ip: String::new(),
            created_unix_ns: 0,
            containers,
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_state_has_a_plan_and_a_status(
        spec in spec(),
        sandboxes in prop::collection::vec(sandbox(), 0..4),
        grace in prop::option::of(any::<i32>()),
        retry in any::<i64>(),
        now in 0..4_000_000_000_i64,
    ) {
        let mut pod = pod(spec);
        if let Some(grace) = grace {
            delete(&mut pod, START_S, i64::from(grace));
        }
        let memory = PodMemory { sandbox_retry_at_unix_s: retry, ..PodMemory::default() };
        let first = plan(&pod, &sandboxes, &memory, now);
        prop_assert_eq!(&first, &plan(&pod, &sandboxes, &memory, now));
        let finishing = first.actions.contains(&Action::Finish);
        prop_assert!(!finishing || sandboxes.is_empty());
        status(&pod, &sandboxes, &memory, "10.0.0.1", now);
    }

    #[test]
    fn whatever_happens_the_pod_ends_where_it_should(
        spec in spec(),
        history in prop::collection::vec(event(), 0..30),
    ) {
        let mut machine = Machine::new(pod(spec.clone()));
        for event in &history {
            happen(&mut machine, event);
            machine.round();
        }
        // The world calms down: init containers succeed, the others run on.
        machine.exits.clear();
        machine.exits.insert("init".into(), 0);
        machine.end("init", 0);
        prop_assert!(machine.settle(ROUNDS), "not quiet: {:?}", machine.plan());
        if spec["restartPolicy"] == "Always" {
            let wanted = spec["containers"].as_array().unwrap().len()
                + spec["initContainers"].as_array().unwrap().iter().filter(|c| c["name"] == "side").count();
            prop_assert_eq!(machine.running().len(), wanted, "{:?}", machine.sandboxes);
        }
        let status = status(&machine.pod, &machine.sandboxes, &machine.memory, "10.0.0.1", machine.now_unix_s);
        let phase = status.phase.unwrap();
        prop_assert!(!machine.running().is_empty() || phase == "Succeeded" || phase == "Failed", "{}", phase);
        if spec["restartPolicy"] == "Never" {
            for name in ["a", "b"] {
                prop_assert!(machine.starts.iter().filter(|(n, _)| n == name).count() <= 1);
            }
        }
        delete(&mut machine.pod, machine.now_unix_s, 30);
        prop_assert!(machine.settle(ROUNDS));
        prop_assert_eq!(machine.plan().actions, [Action::Finish]);
    }
}
