use std::{collections::BTreeMap, net::Ipv4Addr, sync::Arc};

use async_trait::async_trait;
use keelstone_env::Env;
use keelstone_machinery::{
    gvk::GroupResource,
    status::{ApiResult, ApiStatus},
};
use keelstone_storage::{
    Cacher, Freshness, ListOptions, Preconditions, Storage, StorageConfig, StoredObject, Update, Verdict,
};

use super::Owner;
use crate::{config::ServiceCidr, constants::ALLOCATION_TRIES_MAX};

/// The group of allocations in the store; it is not served.
const GROUP: &str = "allocations.keelstone";

/// What a pool holds.
#[derive(Clone, Copy, Debug)]
enum Items {
    Addresses(ServiceCidr),
    Ports { first: u16, last: u16 },
}

/// Service addresses or node ports.
#[derive(Clone)]
pub struct Pool {
    env: Env,
    storage: Arc<dyn Storage>,
    items: Items,
}

/// Both pools.
#[derive(Clone)]
pub struct Pools {
    pub addresses: Pool,
    pub ports: Pool,
}

/// Taken items with their owner; `None` if it cannot be read.
pub type Taken = BTreeMap<String, Option<Owner>>;

/// Whether an item was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Claim {
    Taken,
    HeldByOther,
}

impl Pools {
    pub fn new(env: &Env, cacher: &Cacher, cidr: ServiceCidr, (first, last): (u16, u16)) -> Self {
        let pool = |resource: &str, items| {
            let resource = GroupResource { group: GROUP.into(), resource: resource.into() };
            Pool { env: env.clone(), storage: Arc::new(cacher.direct(StorageConfig::new(resource))), items }
        };
        Self {
            addresses: pool("serviceips", Items::Addresses(cidr)),
            ports: pool("nodeports", Items::Ports { first, last }),
        }
    }
}

/// Removes an allocation that is still its owner's.
struct Release<'a> {
    held: &'a (dyn Fn(Option<&Owner>) -> bool + Sync),
}

#[async_trait]
impl Update for Release<'_> {
    async fn update(&mut self, current: Option<&StoredObject>) -> ApiResult<Verdict> {
        let Some(current) = current else {
            return Ok(Verdict::Keep);
        };
        let owner = Owner::decode(current.value());
        Ok(if (self.held)(owner.as_ref()) { Verdict::Delete } else { Verdict::Keep })
    }
}

impl Pool {
    fn size(&self) -> u32 {
        match self.items {
            Items::Addresses(cidr) => cidr.usable(),
            Items::Ports { first, last } => u32::from(last.saturating_sub(first)) + 1,
        }
    }

    fn item(&self, index: u32) -> String {
        match self.items {
            Items::Addresses(cidr) => cidr.address(index).to_string(),
            Items::Ports { first, .. } => (u32::from(first) + index).to_string(),
        }
    }

    /// The range, as messages name it.
    pub fn range(&self) -> String {
        match self.items {
            Items::Addresses(cidr) => cidr.to_string(),
            Items::Ports { first, last } => format!("{first}-{last}"),
        }
    }

    pub fn contains(&self, item: &str) -> bool {
        match self.items {
            Items::Addresses(cidr) => item.parse::<Ipv4Addr>().is_ok_and(|a| cidr.contains(a)),
            Items::Ports { first, last } => item.parse::<u16>().is_ok_and(|p| (first..=last).contains(&p)),
        }
    }

    /// The first address is the `kubernetes` Service's: it is only given on demand.
    fn is_reserved(&self, index: u32) -> bool {
        matches!(self.items, Items::Addresses(_)) && index == 0
    }

    /// Takes any free item.
    ///
    /// # Errors
    /// 500 if the range is used up; the store's.
    pub async fn take_any(&self, owner: &Owner) -> ApiResult<String> {
        let random = self.env.random();
        for _ in 0..ALLOCATION_TRIES_MAX {
            let index = u32::try_from(random.below(u64::from(self.size()))).unwrap_or(0);
            let item = self.item(index);
            if !self.is_reserved(index) && self.take(&item, owner).await? == Claim::Taken {
                return Ok(item);
            }
        }
        let taken = self.taken().await?;
        for index in 0..self.size() {
            let item = self.item(index);
            if self.is_reserved(index) || taken.contains_key(&item) {
                continue;
            }
            if self.take(&item, owner).await? == Claim::Taken {
                return Ok(item);
            }
        }
        Err(ApiStatus::internal(format!("failed to allocate from {}: range is full", self.range())))
    }

    /// Takes one item, which must lie in the range. An item that the same owner holds is taken already.
    ///
    /// # Errors
    /// The store's.
    pub async fn take(&self, item: &str, owner: &Owner) -> ApiResult<Claim> {
        match self.storage.create(item, owner.encode(), None, false).await {
            Ok(_) => Ok(Claim::Taken),
            Err(error) if error.is_already_exists() => {
                let held = self.owner(item).await?;
                let same = held.is_some_and(|held| held.namespace == owner.namespace && held.name == owner.name);
                Ok(if same { Claim::Taken } else { Claim::HeldByOther })
            }
            Err(error) => Err(error),
        }
    }

    async fn owner(&self, item: &str) -> ApiResult<Option<Owner>> {
        match self.storage.get(item, Freshness::Latest).await {
            Ok(found) => Ok(Owner::decode(found.value())),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Gives an item back if `held` says so of its present owner.
    ///
    /// # Errors
    /// The store's.
    pub async fn give_back(&self, item: &str, held: &(dyn Fn(Option<&Owner>) -> bool + Sync)) -> ApiResult<()> {
        let mut release = Release { held };
        self.storage.update(item, &Preconditions::default(), &mut release, false).await.map(|_| ())
    }

    /// Everything that is taken.
    ///
    /// # Errors
    /// The store's.
    pub async fn taken(&self) -> ApiResult<Taken> {
        let page = self.storage.list("", ListOptions::default()).await?;
        Ok(page.objects.iter().map(|o| (o.key().to_owned(), Owner::decode(o.value()))).collect())
    }

    /// The first item that is not in `taken`; the last one if all are.
    pub fn first_free(&self, taken: &Taken) -> String {
        let free = (0..self.size()).filter(|i| !self.is_reserved(*i)).map(|i| self.item(i));
        free.into_iter().find(|item| !taken.contains_key(item)).unwrap_or_else(|| self.item(self.size() - 1))
    }
}
