//! Topics of which no call is served yet.

use crate::driver::QemuDriver;
use rpc::protocol::block_job::BlockJobs;
use rpc::protocol::checkpoint::Checkpoints;
use rpc::protocol::device::DomainDevices;
use rpc::protocol::guest::GuestAgent;
use rpc::protocol::migration::Migration;
use rpc::protocol::qemu::Qemu;
use rpc::protocol::save::DomainSave;
use rpc::protocol::snapshot::Snapshots;
use rpc::protocol::tuning::DomainTuning;

impl BlockJobs for QemuDriver {}
impl Checkpoints for QemuDriver {}
impl DomainDevices for QemuDriver {}
impl DomainSave for QemuDriver {}
impl DomainTuning for QemuDriver {}
impl GuestAgent for QemuDriver {}
impl Migration for QemuDriver {}
impl Qemu for QemuDriver {}
impl Snapshots for QemuDriver {}
