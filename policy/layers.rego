# Storages: exactly one image, handed over by the node as its layers: each a device under dm-verity whose root hash is known
# here, in the image's order, top first; then the overlay of them all. Then what the volumes need.
storages_ok(c) if {
	layers := policy_data.shared.layers[c.image]
	parts := [s | some s in input.storages; s.fstype in ["tar", "fuse3.kata-overlay"]]
	count(parts) == count(layers) + 1
	every i, layer in layers { layer_ok(layer, parts[i]) }
	overlay_ok(layers, parts[count(layers)])
	count(input.storages) == (count(parts) + count(c.memory)) + count(c.disks)
	every m in c.memory { memory_found(m) }
}

layer_ok(layer, s) if {
	s.driver == "blk"
	s.fstype == "tar"
	regex.match("^[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}[.][0-7]$|^[0-9a-f]{2}(/[0-9a-f]{2})*$", s.source)
	s.mount_point == concat("", ["/run/kata-containers/sandbox/layers/", layer.id])
	root := concat("", ["io.katacontainers.fs-opt.root-hash=", layer.hash])
	s.options == ["ro", "io.katacontainers.fs-opt.block_device=file", "io.katacontainers.fs-opt.is-layer", root]
	plain_storage(s)
}

overlay_ok(layers, s) if {
	s.driver == "overlayfs"
	s.fstype == "fuse3.kata-overlay"
	s.source == "none"
	s.mount_point == input.OCI.Root.Path
	prefix := "io.katacontainers.fs-opt.layer-src-prefix=/var/lib/containerd/io.containerd.snapshotter.v1.tardev/layers"
	named := [option | some layer in layers; option := layer_option(layer)]
	lower := concat("", ["lowerdir=", concat(":", [layer.id | some layer in layers])])
	s.options == array.concat(array.concat([prefix], named), ["io.katacontainers.fs-opt.overlay-rw", lower])
	plain_storage(s)
}

layer_option(layer) := concat("", ["io.katacontainers.fs-opt.layer=", base64.encode(concat("", [
	layer.id,
	",tar,ro,io.katacontainers.fs-opt.block_device=file,io.katacontainers.fs-opt.is-layer",
	",io.katacontainers.fs-opt.root-hash=",
	layer.hash,
]))])

plain_storage(s) if {
	count(s.driver_options) == 0
	is_null(s.fs_group)
	object.get(s, "shared", false) == false
}

