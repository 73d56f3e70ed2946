#!/bin/sh
# Process 1 of the guest. Its root is the host's, read-only; an overlay in memory lets the guest write
# anywhere. Mounts what a booted machine has, cgroup v2 alone among it, and runs /job/job.
export PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
for word in $(cat /proc/cmdline); do
    case $word in
    jobdir=*) jobdir=${word#jobdir=} ;;
    shared=*) shared=${word#shared=} ;;
    esac
done
new=/run/new
mount -t tmpfs tmpfs /run
mkdir /run/upper /run/work $new
mount -t overlay overlay -o lowerdir=/,upperdir=/run/upper,workdir=/run/work $new
mount -t proc proc $new/proc
mount -t sysfs sysfs $new/sys
mount -t devtmpfs devtmpfs $new/dev
mkdir -p $new/dev/pts $new/dev/shm $new/dev/mqueue $new/job
mount -t devpts devpts $new/dev/pts
mount -t tmpfs tmpfs $new/dev/shm
mount -t tmpfs -o mode=1777 tmpfs $new/tmp
mount -t tmpfs tmpfs $new/run
mkdir -p $new/run/netns $new/run/lock $new/run/old
[ -z "$shared" ] || { mkdir -p "$new$shared" && mount -t hostfs -o "$shared,ro" hostfs "$new$shared"; }
mount -t hostfs -o "$jobdir,rw" hostfs $new/job
mount -t cgroup2 cgroup2 $new/sys/fs/cgroup
# As an init system leaves it: every process in a group of its own, all controllers for the children.
mkdir $new/sys/fs/cgroup/init.scope
echo 1 >$new/sys/fs/cgroup/init.scope/cgroup.procs
sed 's/[a-z_]*/+&/g' $new/sys/fs/cgroup/cgroup.controllers >$new/sys/fs/cgroup/cgroup.subtree_control
# Everything is built in: what asks for a module finds nothing missing.
printf '#!/bin/sh\n' >$new/run/modprobe
chmod +x $new/run/modprobe
[ ! -e /proc/sys/kernel/modprobe ] || echo /run/modprobe >/proc/sys/kernel/modprobe
ip link set lo up
hostname guest
cat >$new/run/stage2 <<'S'
umount -l /run/old
stty -F /dev/tty1 raw
sh /job/job </dev/null >/dev/tty1 2>&1
echo $? >/job/status
sync
busybox poweroff -f
S
cd $new && pivot_root . run/old && exec chroot . /bin/sh /run/stage2
