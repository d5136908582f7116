// What the tests run under MPI: says hello, sums ranks, passes a token around; then ends as argv[1] says.
#include <mpi.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static int ring(int rank, int size) {
	int token = 0, next = (rank + 1) % size;
	if (rank > 0) MPI_Recv(&token, 1, MPI_INT, rank - 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
	token++;
	MPI_Send(&token, 1, MPI_INT, next, 0, MPI_COMM_WORLD);
	if (rank == 0) MPI_Recv(&token, 1, MPI_INT, size - 1, 0, MPI_COMM_WORLD, MPI_STATUS_IGNORE);
	return token;
}

int main(int argc, char **argv) {
	int rank, size, sum = 0, token = 0;
	const char *what = argc > 1 ? argv[1] : "";
	MPI_Init(&argc, &argv);
	MPI_Comm_rank(MPI_COMM_WORLD, &rank);
	MPI_Comm_size(MPI_COMM_WORLD, &size);
	MPI_Allreduce(&rank, &sum, 1, MPI_INT, MPI_SUM, MPI_COMM_WORLD);
	if (size > 1) token = ring(rank, size);
	printf("rank %d of %d: sum %d token %d\n", rank, size, sum, token);
	fflush(stdout);
	if (rank == size - 1 && strcmp(what, "abort") == 0) MPI_Abort(MPI_COMM_WORLD, 7);
	if (rank == 1 && strcmp(what, "die") == 0) raise(SIGKILL);
	if (rank == 1 && strcmp(what, "leave") == 0) _exit(3);
	if (strcmp(what, "spawn") == 0) {
		MPI_Comm child;
		MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
		int rc = MPI_Comm_spawn("true", MPI_ARGV_NULL, 1, MPI_INFO_NULL, 0, MPI_COMM_WORLD, &child, MPI_ERRCODES_IGNORE);
		printf("spawn %s\n", rc == MPI_SUCCESS ? "worked" : "was refused");
		return rc == MPI_SUCCESS;
	}
	MPI_Finalize();
	return 0;
}
