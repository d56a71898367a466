#!/usr/bin/env bash
#PBS -N train
#PBS -l select=1:ncpus=2:mpiprocs=2
#PBS -j oe
#
# pbs.sh - a training on N nodes, and gradecho's monitors beside it, as one PBS
# job (OpenPBS, PBS Pro; TORQUE with "#PBS -l nodes=N:ppn=P").
#
#   qsub -l select=4:ncpus=16:mpiprocs=8:ngpus=8 \
#       -v TRAIN='mpirun -x GRADECHO_SESSION ./train' launch/pbs.sh
#
# One monitor for each process of the node file (mpiprocs). The training must
# see $GRADECHO_SESSION on every node: mpirun -x, or the launcher's own way. The
# log is gradecho-JOBID.h5 where the job was submitted; a job that runs again
# goes on with it. The job's exit code is the training's.
#
# From the environment (qsub -v), all but the first optional:
#   TRAIN                the training command
#   GRADECHO_RUN         gradecho-run (default: on PATH)
#   GRADECHO_LOG         the log
#   GRADECHO_CONFIG      configuration of the monitors
#   GRADECHO_PARAMETERS  of the model, as 124M: /dev/shm of this node is looked
#                        at before the training
#   GRADECHO_TRAINERS    on a node, if they are not its processes (with torchrun)
set -u

if [[ -z ${TRAIN:-} ]]; then
    echo "pbs.sh: no training command: qsub -v TRAIN='mpirun ./train' pbs.sh" >&2
    exit 2
fi
cd -- "${PBS_O_WORKDIR:-.}" || exit 1

run=${GRADECHO_RUN:-gradecho-run}
# 123.server, 123[4].server in an array.
session=pbs-${PBS_JOBID//[!A-Za-z0-9._-]/_}
session=${session:0:63}
log=${GRADECHO_LOG:-gradecho-${PBS_JOBID%%.*}.h5}
tasks=$(wc -l <"$PBS_NODEFILE") nodes=$(sort -u "$PBS_NODEFILE" | wc -l)

# An Open MPI that was not built for PBS learns the hosts from here, the
# training's mpirun and that of the monitors alike.
export OMPI_MCA_orte_default_hostfile=$PBS_NODEFILE

# What it finds is in the job's output; the training runs in any case.
[[ -z ${GRADECHO_PARAMETERS:-} ]] || "${GRADECHO_BIN:-gradecho}" doctor \
    --parameters "$GRADECHO_PARAMETERS" \
    --trainers "${GRADECHO_TRAINERS:-$((tasks / nodes))}" --log "$log"

exec "$run" -n "$tasks" --session "$session" --log "$log" --resume \
    ${GRADECHO_CONFIG:+-c "$GRADECHO_CONFIG"} -- bash -c "$TRAIN"
