"""What an operator does beside serving: try, look, prove, recover."""
