//! Topics of which no call is served yet.

use crate::driver::QemuDriver;
use rpc::protocol::block_job::BlockJobs;
use rpc::protocol::checkpoint::Checkpoints;
use rpc::protocol::migration::Migration;
use rpc::protocol::snapshot::Snapshots;

impl BlockJobs for QemuDriver {}
impl Checkpoints for QemuDriver {}
impl Migration for QemuDriver {}
impl Snapshots for QemuDriver {}
