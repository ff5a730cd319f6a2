//! PCI: configuration space, buses, BARs, MSI.
#![forbid(unsafe_code)]
