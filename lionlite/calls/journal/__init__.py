"""What finished chats and items are kept in, so that no kill loses them."""
