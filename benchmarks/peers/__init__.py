"""The same networks in other libraries, to compare with."""
