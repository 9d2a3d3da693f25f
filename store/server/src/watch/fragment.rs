use keelstone_etcd_api::pb;
use prost::Message;

/// Splits a response whose events exceed `bytes_max`; all parts but the last have `fragment` set. A part
/// holds at least one event.
pub(super) fn split(mut whole: pb::WatchResponse, bytes_max: usize) -> Vec<pb::WatchResponse> {
    if whole.encoded_len() <= bytes_max || whole.events.len() <= 1 {
        return vec![whole];
    }
    let events = std::mem::take(&mut whole.events);
    let empty_bytes = whole.encoded_len();
    let mut parts = Vec::new();
    let mut part = pb::WatchResponse { fragment: true, ..whole.clone() };
    let mut part_bytes = empty_bytes;
    for event in events {
        let event_bytes = event.encoded_len();
        if !part.events.is_empty() && part_bytes + event_bytes > bytes_max {
            parts.push(std::mem::replace(&mut part, pb::WatchResponse { fragment: true, ..whole.clone() }));
            part_bytes = empty_bytes;
        }
        part_bytes += event_bytes;
        part.events.push(event);
    }
    part.fragment = false;
    parts.push(part);
    parts
}

#[cfg(test)]
mod tests {
    use super::*;
    use keelstone_etcd_api::mvccpb;

    fn response(values: &[usize]) -> pb::WatchResponse {
        let event = |bytes: &usize| mvccpb::Event {
            kv: Some(mvccpb::KeyValue { value: vec![0; *bytes].into(), ..Default::default() }),
            ..Default::default()
        };
        pb::WatchResponse { watch_id: 7, events: values.iter().map(event).collect(), ..Default::default() }
    }

    #[test]
    fn small_ones_stay_whole() {
        assert_eq!(split(response(&[10, 10]), 1_000), vec![response(&[10, 10])]);
        assert_eq!(split(response(&[5_000]), 1_000).len(), 1);
    }

    #[test]
    fn parts_hold_all_events_in_order_and_only_the_last_is_not_a_fragment() {
        let parts = split(response(&[600, 600, 100, 100, 5_000, 1]), 1_000);
        let sizes: Vec<usize> = parts.iter().map(|part| part.events.len()).collect();
        assert_eq!(sizes, [1, 3, 1, 1]);
        let flags: Vec<bool> = parts.iter().map(|part| part.fragment).collect();
        assert_eq!(flags, [true, true, true, false]);
        let events: Vec<_> = parts.into_iter().flat_map(|part| part.events).collect();
        assert_eq!(events, response(&[600, 600, 100, 100, 5_000, 1]).events);
    }
}
