#!/bin/sh
# The same work wherever frond start is: what it prints must not depend on it. $1 is an MPI program, if there is one.
array=$(frond submit --job-name=squares --cc=1-20 sh -c 'echo square $((FROND_JOB_CC * FROND_JOB_CC))')
after=$(frond submit --dependency=afterok:name:squares sh -c 'echo after the array')
never=$(frond submit sh -c 'echo in vain; exit 3')
if [ -n "$1" ]; then
	mpi=$(frond submit -n2 "$1")
	frond wait $mpi >/dev/null && frond logs $mpi | grep -c ' of 2:'
fi
frond wait $array && frond wait $after
frond wait $never
echo "the failed job's exit code: $?"
frond logs $array | sort -n -k2
frond logs $after $never
frond jobs -a -n -o '{status}' | sort | uniq -c
frond run -n2 sh -c 'echo task $FROND_TASK_RANK' | sort
env | grep -c '^FROND_URI='
exit 7
