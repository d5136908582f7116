// Command frond is Frond: the commands of users, and the broker process itself. One file a verb; broker.go is the only wiring
// of services, by plain constructor calls.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(newEnv().run(context.Background(), os.Args[1:]))
}
