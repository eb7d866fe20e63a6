//! Network namespaces.

/// A network namespace of the tree's own.
///
/// Addresses, routes, rules and neighbours are messages of rtnetlink as the kernel tells them, without their headers: it takes
/// the same back, and what this program does not know of them is kept too.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct NetNamespace {
    /// Its id within the image set.
    pub id: u32,
    /// Its links, each after those that it lies on or belongs to.
    pub links: Vec<Link>,
    /// `RTM_NEWADDR`.
    pub addresses: Vec<Vec<u8>>,
    /// `RTM_NEWROUTE`, of all tables, of IPv4 and IPv6.
    pub routes: Vec<Vec<u8>>,
    /// `RTM_NEWRULE`.
    pub rules: Vec<Vec<u8>>,
    /// `RTM_NEWNEIGH`: those that somebody has added.
    pub neighbours: Vec<Vec<u8>>,
    /// What can be set below `/proc/sys/net`.
    pub settings: Vec<Setting>,
    /// Tables of nftables and what is in them: of each its kind, its family, and attributes as the kernel tells them.
    pub filters: Vec<Vec<u8>>,
}

impl NetNamespace {
    /// Returns one of which nothing was kept: it is made, and left as it is made.
    pub fn empty(id: u32) -> Self {
        Self {
            id,
            ..Self::default()
        }
    }

    /// Returns whether nothing was kept of it: each has a loopback device.
    pub fn is_empty(&self) -> bool {
        self.links.is_empty()
    }
}

/// A file of `/proc/sys/net`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Setting {
    /// Its path from there on.
    pub name: Vec<u8>,
    /// What is in it, without the end of the line.
    pub value: Vec<u8>,
}

/// A network device.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// Its number.
    pub index: u32,
    /// Its name.
    pub name: Vec<u8>,
    /// Other names.
    pub other_names: Vec<Vec<u8>>,
    /// `IFF_*`.
    pub flags: u32,
    /// What it is, as the kernel calls it (`IFLA_INFO_KIND`); none of that of loopback.
    pub kind: Vec<u8>,
    /// What its kind tells of it (`IFLA_INFO_DATA`).
    pub data: Vec<u8>,
    /// Largest packet, in bytes.
    pub mtu: u32,
    /// Its address in hardware.
    pub address: Vec<u8>,
    /// The link that it lies on or is connected to.
    pub lower: Option<u32>,
    /// The namespace of that, as this one calls it (`IFLA_LINK_NETNSID`).
    pub lower_ns: Option<i32>,
    /// The link that it is a port of.
    pub master: Option<u32>,
    /// What its master tells of it: kind and data (`IFLA_INFO_SLAVE_*`).
    pub port: (Vec<u8>, Vec<u8>),
    /// Packets that may wait to be sent.
    pub queue_len: u32,
    /// Its description.
    pub alias: Vec<u8>,
    /// Its group.
    pub group: u32,
    /// Attributes beside: numbers of queues, address of all, sizes.
    pub more: Vec<u8>,
}

impl Link {
    /// Returns whether it is loopback, which every namespace has.
    pub fn is_loopback(&self) -> bool {
        self.flags & libc::IFF_LOOPBACK as u32 != 0
    }

    /// Returns what it is called in messages.
    pub fn words(&self) -> String {
        let name = String::from_utf8_lossy(&self.name);
        match self.kind.is_empty() {
            true => format!("network device {name}"),
            false => {
                let kind = String::from_utf8_lossy(&self.kind);
                format!("network device {name} ({kind})")
            }
        }
    }
}
