#!/bin/busybox sh
# The only process of a machine of `cargo xtask kernels`: one pod behind a veth, fedisniff on the node.
/bin/busybox --install -s /bin
export PATH=/bin HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs run /run
mount -t devtmpfs dev /dev
mount -t bpf bpf /sys/fs/bpf
for module in /modules/*.ko; do insmod "$module"; done
/bin/ip link set lo up
/bin/ip netns add pod
/bin/ip link add veth0 type veth peer name eth0 netns pod
/bin/ip address add 10.9.0.1/24 dev veth0
/bin/ip link set veth0 up
/bin/ip -n pod address add 10.9.0.2/24 dev eth0
/bin/ip -n pod link set eth0 up
/bin/ip netns exec pod /bin/busybox httpd -p 8080 -h /www
fedisniff watch --interfaces veth0 --json > /tmp/exchanges 2> /tmp/said &
watching=$!
tries=0
until grep -q Watching /tmp/said || [ $tries -ge 120 ] || ! kill -0 $watching 2> /dev/null; do
  tries=$((tries + 1))
  sleep 1
done
wget -q -O /dev/null http://10.9.0.2:8080/note.json
sleep 2
kill -INT $watching
wait $watching
sleep 1
# Whether this kernel takes the programs that deny; there is no bridge here to attach them to.
echo '{"apiVersion":"v1","kind":"Namespace","metadata":{"name":"x"}}' > /tmp/cluster.json
fedisniff watch --interfaces veth0 --cluster /tmp/cluster.json --enforce audit > /dev/null 2> /tmp/denies &
denying=$!
tries=0
until grep -q Watching /tmp/denies || [ $tries -ge 120 ] || ! kill -0 $denying 2> /dev/null; do
  tries=$((tries + 1))
  sleep 1
done
kill -INT $denying
wait $denying
echo "== kernel"
uname -r
echo "== exchanges"
cat /tmp/exchanges
echo "== said"
cat /tmp/said
echo "== denies"
cat /tmp/denies
echo "== left"
fedisniff uninstall 2>&1 | grep -v '^Nothing' | sed 's/^/fs_ /'
echo "== end"
poweroff -f
