use keelstone_etcd_api::{pb, ApiError};

use super::{
    client::{fails, said},
    holds, rows, same,
};

rows! {
    "MemberList: names, both kinds of URLs; linearizable or not" => |client| {
        for linearizable in [false, true] {
            let members = said(client.cluster().member_list(pb::MemberListRequest { linearizable }).await)?.members;
            same!(members.len(), client.members);
            let complete = |member: &pb::Member| {
                member.id != 0 && !member.name.is_empty() && !member.peer_ur_ls.is_empty() && !member.is_learner
            };
            holds!(members.iter().all(complete), members);
        }
        Ok(())
    }
    "MemberList: client URLs of every member, once they are known" => |client| {
        for _ in 0..100 {
            let members = said(client.cluster().member_list(pb::MemberListRequest::default()).await)?.members;
            if members.iter().all(|member| !member.client_ur_ls.is_empty()) {
                return Ok(());
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        Err("some are still unknown".into())
    }
    "MemberAdd as a learner, MemberList shows it, MemberUpdate, MemberRemove" => |client| {
        let add = pb::MemberAddRequest { peer_ur_ls: vec!["http://127.0.0.1:1".into()], is_learner: true };
        let added = said(client.cluster().member_add(add).await)?;
        let id = added.member.clone().unwrap_or_default().id;
        holds!(id != 0 && added.members.len() == client.members + 1, added);
        let update = pb::MemberUpdateRequest { id, peer_ur_ls: vec!["http://127.0.0.1:2".into()] };
        said(client.cluster().member_update(update).await)?;
        let members = said(client.cluster().member_list(pb::MemberListRequest { linearizable: true }).await)?.members;
        let found = members.iter().find(|member| member.id == id).cloned().unwrap_or_default();
        holds!(found.is_learner && found.name.is_empty() && found.peer_ur_ls == ["http://127.0.0.1:2"], found);
        let promoted = client.cluster().member_promote(pb::MemberPromoteRequest { id }).await;
        let removed = client.cluster().member_remove(pb::MemberRemoveRequest { id }).await;
        same!(said(removed)?.members.len(), client.members);
        fails(promoted, ApiError::LearnerNotReady)
    }
    "MemberAdd: URLs that cannot be read" => |client| {
        let add = pb::MemberAddRequest { peer_ur_ls: vec!["nonsense".into()], is_learner: true };
        fails(client.cluster().member_add(add).await, ApiError::BadMemberUrls)
    }
    "MemberAdd: URLs of another member" => |client| {
        let members = said(client.cluster().member_list(pb::MemberListRequest::default()).await)?.members;
        let add = pb::MemberAddRequest { peer_ur_ls: members[0].peer_ur_ls.clone(), is_learner: true };
        fails(client.cluster().member_add(add).await, ApiError::PeerUrlExists)
    }
    "MemberRemove, MemberUpdate, MemberPromote of nobody" => |client| {
        fails(client.cluster().member_remove(pb::MemberRemoveRequest { id: 5 }).await, ApiError::MemberNotFound)?;
        fails(client.cluster().member_promote(pb::MemberPromoteRequest { id: 5 }).await, ApiError::MemberNotFound)?;
        let update = pb::MemberUpdateRequest { id: 5, peer_ur_ls: vec!["http://127.0.0.1:2".into()] };
        fails(client.cluster().member_update(update).await, ApiError::MemberNotFound)
    }
    "MemberPromote of a voter" => |client| {
        let members = said(client.cluster().member_list(pb::MemberListRequest::default()).await)?.members;
        let promote = pb::MemberPromoteRequest { id: members[0].id };
        fails(client.cluster().member_promote(promote).await, ApiError::MemberNotLearner)
    }
}
