#!/bin/sh
# The first process of a machine, started in namespaces of its own (see machine.py). Builds the
# machine's file tree in the folder given, waits for a line on standard input that says that the
# network is wired, moves into the tree and becomes busybox init, which keeps the services running.
#
# Every mount made here is in this process' mount namespace alone and goes away with it.
set -eu
root=$1 name=$2

read_only() { # FROM TO
  mkdir -p "$root$2"
  mount --bind "$1" "$root$2"
  mount -o remount,bind,ro "$root$2"
}

echo "$name" >/proc/sys/kernel/hostname
mount --bind "$root" "$root"
cd "$root"
mkdir -p dev proc sys run tmp usr old

# The host lends its programs and its devices; the rest is the machine's own.
read_only /usr /usr
for folder in bin sbin lib lib32 lib64 libx32; do
  if [ -L "/$folder" ]; then
    ln -sfn "$(readlink "/$folder")" "$folder"
  elif [ -d "/$folder" ]; then
    read_only "/$folder" "/$folder"
  fi
done
while read -r from to; do
  read_only "$from" "$to"
done <etc/machine/lent

mount --rbind /dev dev
mount -t proc proc proc
mount -t sysfs sysfs sys
mount --rbind /sys/fs/cgroup sys/fs/cgroup
mount -t tmpfs -o mode=0755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp

# The kubelet sets a few of the kernel's global switches unless they already read as it wants them.
# Here they read so, and the host's own are left alone.
(cd etc/machine/kernel && find . -type f) | while read -r switch; do
  if [ -e "proc/sys/$switch" ]; then
    mount --bind "etc/machine/kernel/$switch" "proc/sys/$switch"
  fi
done

read -r _
echo 1 >/proc/sys/net/ipv4/ip_forward
pivot_root . old
umount -l /old
rmdir /old
mount --make-rshared /
exec /opt/debian/bin/busybox init </dev/null
