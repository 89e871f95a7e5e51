//! Converts `HostConfig` to Compose keys, and lists the options that have none.

use serde_json::{Value, json};

use super::{Made, entries, is_nothing, items};

/// Converts a value; `None` for the engine's default.
type Write = fn(&Value) -> Option<Value>;

/// The engine's option, its Compose key, and the conversion.
const OPTIONS: [(&str, &str, Write); 42] = [
    ("BlkioWeight", "blkio_config", |own| {
        Some(json!({"weight": own}))
    }),
    ("CapAdd", "cap_add", same),
    ("CapDrop", "cap_drop", same),
    ("Cgroup", "cgroup", same),
    ("CgroupParent", "cgroup_parent", same),
    ("CgroupnsMode", "cgroup", same),
    ("CpuPeriod", "cpu_period", same),
    ("CpuQuota", "cpu_quota", same),
    ("CpuRealtimePeriod", "cpu_rt_period", same),
    ("CpuRealtimeRuntime", "cpu_rt_runtime", same),
    ("CpuShares", "cpu_shares", same),
    ("CpusetCpus", "cpuset", same),
    ("DeviceCgroupRules", "device_cgroup_rules", same),
    ("Devices", "devices", devices),
    ("Dns", "dns", same),
    ("DnsOptions", "dns_opt", same),
    ("DnsSearch", "dns_search", same),
    ("ExtraHosts", "extra_hosts", same),
    ("GroupAdd", "group_add", same),
    ("Init", "init", same),
    ("IpcMode", "ipc", |own| other_than(own, "private")),
    ("LogConfig", "logging", logging),
    ("Memory", "mem_limit", same),
    ("MemoryReservation", "mem_reservation", same),
    ("MemorySwap", "memswap_limit", same),
    ("MemorySwappiness", "mem_swappiness", limited),
    ("NanoCpus", "cpus", |own| Some(json!(own.as_f64()? / 1e9))),
    ("OomKillDisable", "oom_kill_disable", same),
    ("OomScoreAdj", "oom_score_adj", same),
    ("PidMode", "pid", same),
    ("PidsLimit", "pids_limit", limited),
    ("Privileged", "privileged", same),
    ("ReadonlyRootfs", "read_only", same),
    ("RestartPolicy", "restart", restart),
    ("Runtime", "runtime", |own| other_than(own, "runc")),
    ("SecurityOpt", "security_opt", same),
    ("ShmSize", "shm_size", |own| {
        (own != 67_108_864).then(|| own.clone())
    }),
    ("StorageOpt", "storage_opt", same),
    ("Sysctls", "sysctls", same),
    ("UTSMode", "uts", same),
    ("Ulimits", "ulimits", ulimits),
    ("UsernsMode", "userns_mode", same),
];

/// Converted elsewhere, or not a setting of the container.
const ASIDE: [&str; 11] = [
    "Binds",
    "ConsoleSize",
    "ContainerIDFile",
    "Isolation",
    "MaskedPaths",
    "Mounts",
    "NetworkMode",
    "PortBindings",
    "ReadonlyPaths",
    "Tmpfs",
    "VolumesFrom",
];

impl Made {
    pub(super) fn host(&mut self, host: &Value) {
        for (name, value) in entries(host).filter(|(_, value)| !is_nothing(value)) {
            match OPTIONS.iter().find(|(known, ..)| known == name) {
                Some((_, key, write)) => self.put(key, write(value).unwrap_or_default()),
                None if ASIDE.contains(&name.as_str()) => {}
                None => self.lost.push(name.clone()),
            }
        }
        self.mounts(host);
        let ports = entries(&host["PortBindings"]).flat_map(|(port, bindings)| {
            let bindings = items(bindings).into_iter();
            bindings.map(move |binding| published(port, &binding))
        });
        self.put("ports", ports.collect());
    }

    fn mounts(&mut self, host: &Value) {
        let mut volumes = items(self.service.get("volumes").unwrap_or(&Value::Null));
        for bind in items(&host["Binds"]) {
            let text = bind.as_str().unwrap_or_default();
            if let Some(name) = text.split(':').next().filter(|own| !own.starts_with('/')) {
                self.external(name);
            }
            volumes.push(bind);
        }
        for mount in items(&host["Mounts"]) {
            if mount["Type"] == "volume"
                && let Some(name) = mount["Source"].as_str()
            {
                self.external(name);
            }
            for option in mount_options_lost(&mount) {
                self.lost.push(format!("Mounts.{option}"));
            }
            volumes.push(mounted(&mount));
        }
        self.put("volumes", json!(volumes));
        let tmpfs = entries(&host["Tmpfs"]).map(|(path, options)| {
            match options.as_str().unwrap_or_default() {
                "" => json!(path),
                options => json!(format!("{path}:{options}")),
            }
        });
        self.put("tmpfs", tmpfs.collect());
        let from = items(&host["VolumesFrom"]).into_iter();
        let from = from.filter_map(|own| Some(json!(format!("container:{}", own.as_str()?))));
        self.put("volumes_from", from.collect());
    }

    fn external(&mut self, name: &str) {
        if !name.is_empty() {
            self.volumes
                .insert(name.to_owned(), json!({"name": name, "external": true}));
        }
    }
}

#[expect(
    clippy::unnecessary_wraps,
    reason = "one of several ways to write an option"
)]
fn same(own: &Value) -> Option<Value> {
    Some(own.clone())
}

fn other_than(own: &Value, usual: &str) -> Option<Value> {
    (own != usual).then(|| own.clone())
}

/// The engine writes -1 for no limit.
fn limited(own: &Value) -> Option<Value> {
    own.as_i64().filter(|own| *own > 0).map(Value::from)
}

fn devices(own: &Value) -> Option<Value> {
    let one = |device: &Value| {
        let part = |key: &str| device[key].as_str().unwrap_or_default().to_owned();
        let parts = ["PathOnHost", "PathInContainer", "CgroupPermissions"].map(part);
        json!(parts.join(":").trim_end_matches(':'))
    };
    Some(items(own).iter().map(one).collect())
}

fn logging(own: &Value) -> Option<Value> {
    let options = &own["Config"];
    let usual = own["Type"] == "json-file" && is_nothing(options);
    (!usual).then(|| match is_nothing(options) {
        true => json!({"driver": own["Type"]}),
        false => json!({"driver": own["Type"], "options": options}),
    })
}

fn restart(own: &Value) -> Option<Value> {
    let name = own["Name"].as_str().filter(|name| *name != "no")?;
    Some(match own["MaximumRetryCount"].as_u64() {
        Some(count) if count > 0 => json!(format!("{name}:{count}")),
        _ => json!(name),
    })
}

fn ulimits(own: &Value) -> Option<Value> {
    let one = |limit: &Value| {
        let name = limit["Name"].as_str()?.to_owned();
        Some((name, json!({"soft": limit["Soft"], "hard": limit["Hard"]})))
    };
    Some(Value::Object(items(own).iter().filter_map(one).collect()))
}

fn published(port: &str, binding: &Value) -> Value {
    let (target, protocol) = port.split_once('/').unwrap_or((port, "tcp"));
    let mut made = json!({"mode": "ingress", "protocol": protocol});
    made["target"] = target.parse::<u16>().map_or(Value::Null, Value::from);
    for (theirs, ours) in [("HostIp", "host_ip"), ("HostPort", "published")] {
        if !is_nothing(&binding[theirs]) {
            made[ours] = binding[theirs].clone();
        }
    }
    made
}

/// An entry of `HostConfig.Mounts` in Compose's long form.
fn mounted(mount: &Value) -> Value {
    let mut made = json!({});
    let mut put = |place: &[&str], value: &Value| {
        if !is_nothing(value) {
            let at = place.iter().fold(&mut made, |at, key| &mut at[*key]);
            *at = value.clone();
        }
    };
    put(&["type"], &mount["Type"]);
    put(&["source"], &mount["Source"]);
    put(&["target"], &mount["Target"]);
    put(&["read_only"], &mount["ReadOnly"]);
    let (bind, volume) = (&mount["BindOptions"], &mount["VolumeOptions"]);
    put(&["bind", "propagation"], &bind["Propagation"]);
    put(&["bind", "create_host_path"], &bind["CreateMountpoint"]);
    put(&["volume", "nocopy"], &volume["NoCopy"]);
    put(&["volume", "subpath"], &volume["Subpath"]);
    let tmpfs = &mount["TmpfsOptions"];
    put(&["tmpfs", "size"], &tmpfs["SizeBytes"]);
    put(&["tmpfs", "mode"], &tmpfs["Mode"]);
    made
}

/// Options of a mount that have no Compose key.
fn mount_options_lost(mount: &Value) -> Vec<String> {
    let known = [
        ("BindOptions", &["Propagation", "CreateMountpoint"][..]),
        // Compose sets the labels itself.
        ("VolumeOptions", &["NoCopy", "Subpath", "Labels"]),
        ("TmpfsOptions", &["SizeBytes", "Mode"]),
    ];
    let mut lost = Vec::new();
    for (options, known) in known {
        let more = entries(&mount[options])
            .filter(|(key, value)| !known.contains(&key.as_str()) && !is_nothing(value));
        lost.extend(more.map(|(key, _)| format!("{options}.{key}")));
    }
    lost
}
