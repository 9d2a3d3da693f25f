use std::net::Ipv4Addr;

use keelstone_access::admission::AdmissionConfig;
use keelstone_env::{ClientTls, ServerTls};

use crate::perturb::Plan;

/// What an API server is started with. Texts of keys and certificates are PEM.
#[derive(Clone, Debug)]
pub struct ApiServerConfig {
    /// This master's name; unique among the masters.
    pub name: String,
    /// Where to listen, as `host:port`; port 0 takes a free one. `None`: only in-process clients are served.
    pub listen: Option<String>,
    /// `None` serves without TLS (tests): then certificates identify nobody.
    pub tls: Option<ServerTls>,
    /// The address under which clients and other masters reach this one; shown by `/api` and listed in the
    /// `kubernetes` Service.
    pub advertise_host: String,
    /// 0: the port that is listened on.
    pub advertise_port: u16,
    /// Lines `token,user,uid,"groups"`; empty for none.
    pub static_tokens: String,
    pub anonymous: bool,
    /// The `iss` of service account tokens.
    pub service_account_issuer: String,
    /// EC private key on P-256 that signs service account tokens; the same on all masters.
    pub service_account_key: String,
    /// Older keys whose tokens are still accepted.
    pub service_account_old_keys: Vec<String>,
    /// Audiences that this API server answers to; empty: the issuer.
    pub api_audiences: Vec<String>,
    /// The addresses of Services.
    pub service_cidr: ServiceCidr,
    /// The ports of Services of type NodePort, both ends included.
    pub node_port_range: (u16, u16),
    pub admission: AdmissionConfig,
    /// How this server shows itself to node agents when it fetches logs; `None`: logs cannot be fetched.
    pub node_client: Option<ClientTls>,
    /// Whose requests are disturbed on purpose; `None`: nobody's.
    pub perturbation: Option<Plan>,
}

impl ApiServerConfig {
    /// Defaults around the parts that have none.
    pub fn new(name: &str, service_account_key: &str) -> Self {
        Self {
            name: name.into(),
            listen: None,
            tls: None,
            advertise_host: "127.0.0.1".into(),
            advertise_port: 0,
            static_tokens: String::new(),
            anonymous: true,
            service_account_issuer: "https://kubernetes.default.svc.cluster.local".into(),
            service_account_key: service_account_key.into(),
            service_account_old_keys: Vec::new(),
            api_audiences: Vec::new(),
            service_cidr: ServiceCidr::default(),
            node_port_range: (30_000, 32_767),
            admission: AdmissionConfig::default(),
            node_client: None,
            perturbation: None,
        }
    }
}

/// A range of IPv4 addresses for Services, such as `10.96.0.0/16`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ServiceCidr {
    base: u32,
    bits: u8,
}

impl Default for ServiceCidr {
    fn default() -> Self {
        Self { base: u32::from(Ipv4Addr::new(10, 96, 0, 0)), bits: 16 }
    }
}

impl ServiceCidr {
    /// # Errors
    /// A text that says what is wrong; prefixes of 8 to 30 bits are taken.
    pub fn parse(text: &str) -> Result<Self, String> {
        let bad = || format!("{text:?} is not an IPv4 range such as 10.96.0.0/16, of 8 to 30 bits");
        let (address, bits) = text.split_once('/').ok_or_else(bad)?;
        let address: Ipv4Addr = address.parse().map_err(|_| bad())?;
        let bits: u8 = bits.parse().map_err(|_| bad())?;
        if !(8..=30).contains(&bits) {
            return Err(bad());
        }
        let size = 1u32 << (32 - bits);
        Ok(Self { base: u32::from(address) & !(size - 1), bits })
    }

    /// How many addresses can be given: all but the network's own and the broadcast address.
    pub fn usable(self) -> u32 {
        (1u32 << (32 - self.bits)) - 2
    }

    /// The `index`th usable address, from 0.
    pub fn address(self, index: u32) -> Ipv4Addr {
        Ipv4Addr::from(self.base + 1 + index % self.usable())
    }

    /// The address of the `kubernetes` Service.
    pub fn first(self) -> Ipv4Addr {
        self.address(0)
    }

    pub fn contains(self, address: Ipv4Addr) -> bool {
        let offset = u32::from(address).wrapping_sub(self.base);
        (1..=self.usable()).contains(&offset)
    }
}

impl std::fmt::Display for ServiceCidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", Ipv4Addr::from(self.base), self.bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_have_their_first_and_last_address_and_not_one_more() {
        let range = ServiceCidr::parse("10.96.3.4/16").unwrap();
        assert_eq!(range.to_string(), "10.96.0.0/16");
        assert_eq!(range.first(), Ipv4Addr::new(10, 96, 0, 1));
        assert_eq!(range.address(range.usable() - 1), Ipv4Addr::new(10, 96, 255, 254));
        assert!(range.contains(Ipv4Addr::new(10, 96, 0, 1)));
        assert!(!range.contains(Ipv4Addr::new(10, 96, 0, 0)));
        assert!(range.contains(Ipv4Addr::new(10, 96, 255, 254)));
        assert!(!range.contains(Ipv4Addr::new(10, 96, 255, 255)));
        assert!(!range.contains(Ipv4Addr::new(10, 97, 0, 1)));
        for bad in ["10.96.0.0", "10.96.0.0/31", "10.96.0.0/7", "::1/64", "x/16"] {
            assert!(ServiceCidr::parse(bad).is_err(), "{bad}");
        }
    }
}
