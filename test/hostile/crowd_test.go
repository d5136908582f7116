package hostile

const crowdURI = "FROND_HOSTILE_CROWD" // makes this program the process of the clients

func crowd(uri string) int { return 0 }
